"""Programs with a garbage collector of their own: conservative, in WebAssembly, and as cruel as one can be.

Each call of ``$new`` collects: a cell whose address is in no word of the shadow stack is freed and its content spoilt.
So a program computes what it should only if every cell that it still uses is to be seen there at each call. ``$new``
also calls the host, so that a traveller can hop there, in the middle of a collection.

``PROGRAMS``: name -> the text of its functions, of which ``$main`` gives what ``run`` returns; it must be EXPECTED.
"""

from __future__ import annotations

TOP = 65536  # of the shadow stack; cells lie above it
EXPECTED = 4711

COLLECTOR = """
(import "t" "tick" (func $tick (param i32) (result i32)))
(memory (export "memory") 2)
(global $sp (export "__stack_pointer") (mut i32) (i32.const 65536))
(global $allocated (export "allocated") (mut i32) (i32.const 0))
(type $maker (func (param i32) (result i32)))
(table 2 funcref) (elem (i32.const 0) $new $value)
(tag $thrown (param i32))
;; a cell: whether it is used, its number
(func $seen (param $cell i32) (param $at i32) (result i32)
  (block $end (loop $next
    (br_if $end (i32.ge_u (local.get $at) (i32.const 65536)))
    (if (i32.eq (i32.load (local.get $at)) (local.get $cell)) (then (return (i32.const 1))))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br $next)))
  (i32.const 0))
(func $collect (param $bottom i32) (local $cell i32)
  (local.set $cell (i32.const 65536))
  (loop $next
    (if (i32.load (local.get $cell))
      (then (if (i32.eqz (call $seen (local.get $cell) (local.get $bottom)))
        (then (i64.store (local.get $cell) (i64.const -6_000_000_000_000))
              (i32.store (local.get $cell) (i32.const 0))))))
    (local.set $cell (i32.add (local.get $cell) (i32.const 16)))
    (br_if $next (i32.lt_u (local.get $cell) (i32.const 66560)))))
(func $new (param $number i32) (result i32) (local $cell i32)
  (drop (call $tick (local.get $number)))
  (call $collect (global.get $sp))
  (local.set $cell (i32.const 65536))
  (loop $next
    (if (i32.load (local.get $cell))
      (then (local.set $cell (i32.add (local.get $cell) (i32.const 16)))
            (br_if $next (i32.lt_u (local.get $cell) (i32.const 66560)))
            (unreachable))))
  (global.set $allocated (i32.add (global.get $allocated) (i32.const 1)))
  (i32.store (local.get $cell) (i32.const 1))
  (i32.store offset=4 (local.get $cell) (local.get $number))
  (local.get $cell))
(func $value (param $cell i32) (result i32) (i32.load offset=4 (local.get $cell)))
(func $litter (drop (call $new (i32.const -1))) (drop (call $new (i32.const -2))))
(func $pair (param i32 i32) (result i32 i32) (local $a i32)
  (local.set $a (call $new (local.get 0)))
  (local.get $a) (call $new (local.get 1)))
(func (export "run") (param i32) (result i32) (call $main))
"""

PROGRAMS: dict[str, str] = {
    "a local": """(func $main (result i32) (local $a i32)
      (local.set $a (call $new (i32.const 4711))) (call $litter) (call $value (local.get $a)))""",
    "a parameter": """(func $keep (param $a i32) (result i32) (call $litter) (call $value (local.get $a)))
      (func $main (result i32) (call $keep (call $new (i32.const 4711))))""",
    "an operand": """(func $main (result i32) (call $new (i32.const 4711)) (call $litter) (call $value))""",
    "an operand below a block": """(func $main (result i32)
      (call $new (i32.const 4711)) (block (loop (block (call $litter)))) (call $value))""",
    "operands below operands": """(func $main (result i32)
      (call $new (i32.const 4000)) (i32.const 3) (call $new (i32.const 700)) (f64.const 1) (call $new (i32.const 11))
      (call $litter) (call $value) (drop (call $new (i32.const 1)))
      (global.set $sum) (drop) (call $value) (global.set $sum (i32.add (global.get $sum)))
      drop (call $value) (i32.add (global.get $sum)))
      (global $sum (mut i32) (i32.const 0))""",
    "a copy of a local that is written": """(func $main (result i32) (local $a i32)
      (local.set $a (call $new (i32.const 4000)))
      (local.get $a) (local.set $a (call $new (i32.const 711)))
      (call $litter) (call $value) (i32.add (call $value (local.get $a))))""",
    "a copy of a local that a loop writes": """(func $main (result i32) (local $a i32) (local $n i32)
      (local.set $a (call $new (i32.const 4000)))
      (local.get $a)
      (loop (call $litter) (local.set $a (call $new (i32.const 711)))
        (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3))))
      (call $value) (i32.add (call $value (local.get $a))))""",
    "a result of a block": """(func $main (result i32)
      (block (result i32) (call $new (i32.const 4711)) (br_if 0 (i32.const 1)) (call $litter))
      (call $litter) (call $value))""",
    "a result of an if": """(func $main (result i32) (local $n i32)
      (if (result i32) (i32.eqz (local.get $n)) (then (call $new (i32.const 4711))) (else (call $new (i32.const 1))))
      (call $litter) (call $value))""",
    "results of a call": """(func $main (result i32) (local $b i32)
      (call $pair (i32.const 4000) (i32.const 711)) (call $litter)
      (local.set $b) (call $litter) (call $value) (i32.add (call $value (local.get $b))))""",
    "the lower result of a call": """(func $main (result i32)
      (call $pair (i32.const 4711) (i32.const 2)) (drop) (call $litter) (call $value))""",
    "a parameter of a loop": """(func $main (result i32) (local $n i32)
      (call $new (i32.const 4710))
      (loop (param i32) (result i32) (call $litter) (call $value) (call $new (i32.add (i32.const 1)))
        (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 0)))
        (call $litter) (call $value)))""",
    "what a loop does not write": """(func $main (result i32) (local $a i32) (local $b i32) (local $n i32)
      (local.set $a (call $new (i32.const 4001)))
      (loop
        (local.set $b (call $new (i32.add (i32.const 700) (local.get $n)))) (call $litter)
        (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 11)))
        (call $litter))
      (i32.add (call $value (local.get $a)) (call $value (local.get $b))))""",
    "what a loop writes at last": """(func $main (result i32) (local $a i32) (local $n i32)
      (local.set $a (call $new (i32.const 1)))
      (loop (call $litter)
        (if (i32.ne (call $value (local.get $a)) (i32.add (local.get $n) (i32.const 1))) (then (return (i32.const 0))))
        (local.set $a (call $new (i32.add (local.get $n) (i32.const 2))))
        (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 40))))
      (call $litter) (i32.add (i32.const 4670) (call $value (local.get $a))))""",
    "a way that stores and one that does not": """(func $main (result i32) (local $a i32) (local $n i32)
      (local.set $a (call $new (i32.const 4711)))
      (block (br_if 0 (i32.eqz (local.get $n))) (call $litter)) (call $litter) (call $value (local.get $a)))""",
    "two that share a slot": """(func $main (result i32) (local $a i32) (local $b i32) (local $n i32)
      (local.set $a (call $new (i32.const 4000))) (call $litter) (local.set $n (call $value (local.get $a)))
      (local.set $b (call $new (i32.const 711))) (call $litter) (local.set $n (i32.add (local.get $n) (call $value (local.get $b))))
      (local.get $n))""",
    "half of an i64": """(func $main (result i32) (local $a i64)
      (local.set $a (i64.or (i64.shl (i64.extend_i32_u (call $new (i32.const 4711))) (i64.const 32)) (i64.const 5)))
      (call $litter) (call $value (i32.wrap_i64 (i64.shr_u (local.get $a) (i64.const 32)))))""",
    "a lane of a vector": """(func $main (result i32) (local $a v128)
      (local.set $a (i32x4.splat (i32.const 1)))
      (local.set $a (i32x4.replace_lane 2 (local.get $a) (call $new (i32.const 4711))))
      (call $litter) (call $value (i32x4.extract_lane 2 (local.get $a))))""",
    "a selected one": """(func $main (result i32) (local $a i32)
      (select (call $new (i32.const 4711)) (i32.const 0) (i32.const 1)) (call $litter) (call $value))""",
    "a masked one": """(func $main (result i32) (local $a i32)
      (local.set $a (i32.and (i32.or (call $new (i32.const 4711)) (i32.const 1)) (i32.const -2)))
      (call $litter) (call $value (local.get $a)))""",
    "one made of a constant": """(func $main (result i32) (local $a i32)
      (local.set $a (i32.add (i32.const 65536) (i32.sub (call $new (i32.const 4711)) (i32.const 65536))))
      (call $litter) (call $value (local.get $a)))""",
    "one that a global held": """(global $g (mut i32) (i32.const 0)) (func $main (result i32) (local $a i32)
      (global.set $g (call $new (i32.const 4711))) (local.set $a (global.get $g)) (global.set $g (i32.const 0))
      (call $litter) (call $value (local.get $a)))""",
    "recursion": """(func $down (param $n i32) (result i32) (local $a i32)
      (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
      (local.set $a (call $new (local.get $n)))
      (i32.add (call $down (i32.sub (local.get $n) (i32.const 1))) (call $value (local.get $a))))
      (func $main (result i32) (i32.add (call $down (i32.const 20)) (i32.const 4501)))""",
    "a call through a table": """(func $main (result i32) (local $a i32)
      (local.set $a (call_indirect (type $maker) (i32.const 4711) (i32.const 0)))
      (drop (call_indirect (type $maker) (i32.const 1) (i32.const 0)))
      (call_indirect (type $maker) (local.get $a) (i32.const 1)))""",
    "a call through a reference": """(func $main (result i32)
      (call $new (i32.const 4711)) (drop (call_ref $maker (i32.const 1) (ref.func $new))) (call $value))""",
    "a tail call": """(func $last (param $a i32) (result i32) (call $litter) (call $value (local.get $a)))
      (func $first (param $a i32) (result i32) (call $litter) (return_call $last (local.get $a)))
      (func $main (result i32) (call $first (call $new (i32.const 4711))))""",
    "many tail calls": """(func $down (param $a i32) (param $n i32) (result i32)
      (call $litter)
      (if (i32.eqz (local.get $n)) (then (return (call $value (local.get $a)))))
      (return_call $down (local.get $a) (i32.sub (local.get $n) (i32.const 1))))
      (func $main (result i32) (call $down (call $new (i32.const 4711)) (i32.const 30)))""",
    "returns in the middle": """(func $early (param $a i32) (param $way i32) (result i32)
      (block (block (block (br_table 0 1 2 (local.get $way)))
        (call $litter) (return (call $value (local.get $a))))
        (call $litter) (br 1 (call $value (local.get $a))))
      (call $litter) (call $value (local.get $a)))
      (func $main (result i32) (local $a i32)
      (local.set $a (call $new (i32.const 1)))
      (drop (call $early (local.get $a) (i32.const 0))) (drop (call $early (local.get $a) (i32.const 1)))
      (i32.add (i32.const 4710) (call $early (local.get $a) (i32.const 7))))""",
    "caught": """(func $throw (param $a i32) (call $litter) (call $litter) (throw $thrown (local.get $a)))
      (func $deep (param $a i32) (call $litter) (call $throw (local.get $a)) (drop (call $value (local.get $a))))
      (func $main (result i32) (local $a i32) (local $b i32) (local $n i32)
      (local.set $a (call $new (i32.const 4000)))
      (local.set $b (call $new (i32.const 711)))
      (loop $again
        (block $caught (result i32)
          (try_table (catch $thrown $caught) (call $deep (local.get $b)))
          (unreachable))
        (local.set $b)
        (call $litter)
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 25))))
      (i32.add (call $value (local.get $a)) (call $value (local.get $b))))""",
    "caught where nothing is kept": """(func $throw (param $a i32) (call $litter) (throw $thrown (local.get $a)))
      (func $deep (param $a i32) (call $litter) (call $throw (local.get $a)) (drop (call $value (local.get $a))))
      (func $try (param $a i32) (result i32) (try_table (catch $thrown 0) (call $deep (local.get $a))) (i32.const 5))
      (func $main (result i32) (local $n i32)
      (loop (if (i32.ne (call $value (call $try (call $new (i32.const 7)))) (i32.const 7)) (then (unreachable)))
        (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 25))))
      (call $value (call $try (call $new (i32.const 4711)))))""",
    "caught by a loop": """(func $deep (param $a i32) (call $litter) (call $litter)
        (throw $thrown (call $new (i32.sub (call $value (local.get $a)) (i32.const 1)))))
      (func $main (result i32) (local $a i32) (local $b i32) (local $n i32)
      (local.set $a (call $new (i32.const 4711)))
      (call $new (i32.const 12))
      (loop $again (param i32)
        (local.set $b) (call $litter)
        (if (i32.gt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 12))
          (then (return (i32.sub (call $value (local.get $a)) (call $value (local.get $b))))))
        (try_table (catch $thrown $again) (call $deep (local.get $b))))
      (unreachable))""",
    "a frame of its own": """(func $poke (param i32) (i32.store (local.get 0) (i32.const 4000)) (call $litter))
      (func $main (result i32) (local $fp i32) (local $a i32)
      global.get $sp i32.const 32 i32.sub local.tee $fp global.set $sp
      (local.set $a (call $new (i32.const 711)))
      (call $poke (i32.add (local.get $fp) (i32.const 28)))
      (call $litter)
      (i32.add (call $value (local.get $a)) (i32.load offset=28 (local.get $fp)))
      local.get $fp i32.const 32 i32.add global.set $sp)""",
    "a frame that grows": """(func $poke (param i32) (i32.store (local.get 0) (i32.const 4000)) (call $litter))
      (func $main (result i32) (local $fp i32) (local $a i32) (local $more i32)
      global.get $sp i32.const 32 i32.sub local.tee $fp global.set $sp
      (local.set $a (call $new (i32.const 711)))
      local.get $fp i32.const 64 i32.sub local.tee $more global.set $sp
      (call $poke (local.get $more)) (call $litter)
      (i32.add (call $value (local.get $a)) (i32.load (local.get $more)))
      local.get $fp i32.const 32 i32.add global.set $sp)""",
    "a frame of its own, caught": """(func $throw (param $a i32) (call $litter) (throw $thrown (local.get $a)))
      (func $deep (param $a i32) (call $litter) (call $throw (local.get $a)) (drop (call $value (local.get $a))))
      (func $main (result i32) (local $fp i32) (local $a i32) (local $n i32)
      global.get $sp i32.const 16 i32.sub local.tee $fp global.set $sp
      (local.set $a (call $new (i32.const 4711)))
      (loop
        (block $caught (result i32) (try_table (catch $thrown $caught) (call $deep (local.get $a))) (unreachable))
        local.get $fp global.set $sp
        (local.set $a) (call $litter)
        (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 25))))
      (call $value (local.get $a))
      local.get $fp i32.const 16 i32.add global.set $sp)""",
}  # fmt: skip


def text(name: str) -> str:
    """The module of a program."""
    return f"(module {COLLECTOR} {PROGRAMS[name]})"
