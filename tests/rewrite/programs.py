"""Small programs in the text format, each with a way to be suspended where the rewriting is hardest.

Each exports ``run`` and may import ``t.tick: (i32) -> i32``, a host function that suspends and answers its argument
plus a running count, so that an argument passed twice, or a call made twice, changes the result.
"""

from __future__ import annotations

PROGRAMS: dict[str, tuple[str, tuple[int, ...]]] = {}


def _program(name: str, arguments: tuple[int, ...], text: str) -> None:
    PROGRAMS[name] = (f'(module (import "t" "tick" (func $tick (param i32) (result i32))) {text})', arguments)


_program(
    "loop",
    (7,),
    """(func (export "run") (param $n i32) (result i32) (local $sum i32)
         (loop $l
           (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 3)) (call $tick (local.get $n))))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (local.get $sum))""",
)
_program(
    "nested loops",
    (4,),
    """(func (export "run") (param $n i32) (result i64) (local $i i32) (local $j i32) (local $sum i64)
         (loop $outer
           (local.set $j (i32.const 0))
           (loop $inner
             (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
               (i64.extend_i32_u (call $tick (i32.add (local.get $i) (local.get $j))))))
             (br_if $inner (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (local.get $n))))
           (br_if $outer (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
         (local.get $sum))""",
)
_program(
    "recursion",
    (6,),
    """(func $fib (export "run") (param $n i32) (result i32)
         (if (result i32) (i32.lt_s (local.get $n) (i32.const 2))
           (then (call $tick (local.get $n)))
           (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1)))
                          (call $fib (i32.sub (local.get $n) (i32.const 2)))))))""",
)
_program(
    "operands below a call",
    (5,),
    """(func (export "run") (param $n i32) (result i64)
         i64.const 1000 local.get $n i32.const 17 i32.add
         f64.const 2.5 f32.const 1.5 local.get $n call $tick i32.const 3 call $tick i32.add
         f32.convert_i32_s f32.add f64.promote_f32 f64.add i64.trunc_f64_s
         call $second i64.add)
       (func $second (param i32 i64) (result i64)
         local.get 1 local.get 0 call $tick i64.extend_i32_s i64.mul)""",
)
_program(
    "operands below constructs",
    (3,),
    """(func (export "run") (param $n i32) (result i32) (local $k i32)
         i32.const 1000
         local.get $n
         (block $b (result i32)
           i32.const 50
           (loop $l (result i32)
             i32.const 7
             (if (result i32) (call $tick (local.get $n))
               (then (call $tick (i32.const 1)))
               (else (call $tick (i32.const 2))))
             i32.sub
             (local.set $k (i32.add (local.get $k) (i32.const 1)))
             (br_if $b (i32.gt_u (local.get $k) (i32.const 5)))
             (drop)
             (br_if $l (i32.lt_u (local.get $k) (local.get $n)))
             (call $tick (local.get $k)))
           i32.mul)
         i32.add i32.xor)""",
)
_program(
    "loop parameters",
    (5,),
    """(type $p (func (param i32 i64) (result i64 i32)))
       (func (export "run") (param $n i32) (result i64)
         i32.const 99
         local.get $n i64.const 1
         (loop $l (param i32 i64) (result i64 i32)
           i64.const 3 i64.mul
           (local.set $t)
           (local.set $n (i32.sub (i32.const 1)))
           (local.get $n) (local.get $t) (i64.extend_i32_u (call $tick (local.get $n))) (i64.add)
           (br_if $l (local.get $n))
           (local.set $t) (drop) (local.get $t) (i32.const 4))
         i64.extend_i32_u i64.add
         (local.set $t) (drop) (local.get $t))""".replace(
        "(param $n i32) (result i64)\n         i32.const 99",
        "(param $n i32) (result i64) (local $t i64)\n         i32.const 99",
    ).replace("(local.set $n (i32.sub (i32.const 1)))", "i32.const 1 i32.sub local.set $n"),
)
_program(
    "parameters of blocks and ifs",
    (6,),
    """(func (export "run") (param $n i32) (result i32) (local $sum i32)
         (loop $l
           local.get $n i32.const 3
           (block (param i32 i32) (result i32)
             call $tick i32.add)
           local.get $n i32.const 1 i32.and
           (if (param i32) (result i32)
             (then call $tick i32.const 2 i32.mul)
             (else i32.const 5 i32.add call $tick))
           i32.const 10 local.get $n i32.const 2 i32.and
           (if (param i32) (result i32) (then call $tick))
           i32.add local.get $sum i32.add local.set $sum
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (local.get $sum))""",
)
_program(
    "br_table and blocks",
    (9,),
    """(func (export "run") (param $n i32) (result i32) (local $sum i32)
         (loop $top
           (block $out
             (block $c (block $b (block $a
               (br_table $a $b $c $out (i32.rem_u (local.get $n) (i32.const 4))))
               (local.set $sum (i32.add (local.get $sum) (call $tick (i32.const 1)))) (br $out))
               (local.set $sum (i32.mul (local.get $sum) (call $tick (i32.const 2)))))
             (if (i32.and (local.get $n) (i32.const 4))
               (then (br_if $out (call $tick (i32.const 0))) (local.set $sum (i32.add (local.get $sum) (i32.const 9))))
               (else (local.set $sum (i32.xor (local.get $sum) (call $tick (i32.const 77)))))))
           (br_if $top (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (local.get $sum))""",
)
_program(
    "indirect calls and returns",
    (5,),
    """(type $f (func (param i32) (result i32)))
       (table 3 funcref) (elem (i32.const 0) $x $y $tick)
       (func $x (type $f) (if (i32.eqz (local.get 0)) (then (return (i32.const 8)))) (call $tick (local.get 0)))
       (func $y (type $f) (i32.add (call $x (i32.const 0)) (call_indirect (type $f) (local.get 0) (i32.const 0))))
       (func (export "run") (param $n i32) (result i32) (local $sum i32)
         (loop $l
           (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 7))
             (call_indirect (type $f) (local.get $n) (i32.rem_u (local.get $n) (i32.const 3)))))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (local.get $sum))""",
)
_program(
    "exceptions",
    (6,),
    """(tag $e (param i32)) (tag $other)
       (func $thrower (param i32) (result i32)
         (if (i32.and (call $tick (local.get 0)) (i32.const 1)) (then (throw $e (call $tick (local.get 0)))))
         (if (i32.eq (local.get 0) (i32.const 4)) (then (throw $other)))
         (call $tick (i32.const 100)))
       (func $between (param i32) (result i32) (i32.add (call $thrower (local.get 0)) (call $tick (i32.const 1))))
       (func (export "run") (param $n i32) (result i32) (local $sum i32)
         (loop $l
           (block $done
             (block $all
               (block $h (result i32)
                 (try_table (result i32) (catch $e $h) (catch_all $all)
                   (i32.add (call $between (local.get $n)) (call $tick (local.get $sum))))
                 (local.set $sum (i32.add (local.get $sum)))
                 (br $done))
               (local.set $sum (i32.sub (i32.mul (local.get $sum) (i32.const 3))))
               (br $done))
             (local.set $sum (i32.add (local.get $sum) (call $tick (i32.const 1000)))))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (local.get $sum))""".replace(
        "(local.set $sum (i32.add (local.get $sum)))", "local.get $sum i32.add local.set $sum"
    ).replace(
        "(local.set $sum (i32.sub (i32.mul (local.get $sum) (i32.const 3))))",
        "local.get $sum i32.const 3 i32.mul i32.sub local.set $sum",
    ),
)
_program(
    "nested try_tables in a loop",
    (5,),
    """(tag $e (param i32)) (tag $f)
       (func $deep (param i32) (result i32)
         (if (i32.eqz (local.get 0)) (then (throw $e (call $tick (i32.const 11)))))
         (if (i32.eq (local.get 0) (i32.const 3)) (then (drop (call $tick (i32.const 1))) (throw $f)))
         (i32.add (call $tick (i32.const 1)) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
       (func (export "run") (param $n i32) (result i32) (local $sum i32) (local $turns i32)
         (local.set $turns (i32.const 3))
         (loop $l
           (block $outer_h
             (block $inner_h (result i32)
               (try_table (catch $f $outer_h)
                 (try_table (catch $e $inner_h)
                   (local.set $sum (i32.add (local.get $sum) (call $deep (local.get $n))))
                 )
                 (local.set $sum (i32.add (local.get $sum) (call $tick (i32.const 5)))))
               (i32.const 1))
             (local.set $sum (i32.add (local.get $sum) (call $tick (i32.const 2))))
             i32.const 13 i32.mul local.get $sum i32.add local.set $sum
             (local.set $n (i32.sub (local.get $n) (i32.const 3))))
           (local.set $n (i32.add (local.get $n) (i32.const 2)))
           (br_if $l (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
         (local.get $sum))""",
)
_program(
    "tail calls",
    (5,),
    """(type $f (func (param i32 i32) (result i32)))
       (table 1 funcref) (elem (i32.const 0) $even)
       (func $even (type $f)
         (if (i32.eqz (local.get 0)) (then (return (call $tick (local.get 1)))))
         (return_call $odd (i32.sub (local.get 0) (i32.const 1)) (i32.add (call $tick (local.get 0)) (local.get 1))))
       (func $odd (type $f)
         (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
         (drop (call $tick (i32.const 0)))
         (return_call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (i32.const 0)))
       (func (export "run") (param $n i32) (result i32)
         (i32.mul (call $even (local.get $n) (i32.const 1)) (call $tick (i32.const 2))))""",
)
_program(
    "many values",
    (3,),
    """(func $pair (param i32) (result i32 i64 f32 f64)
         (call $tick (local.get 0)) (i64.const -5) (f32.const 0.5) (f64.const -0.0))
       (func (export "run") (param $n i32) (result i64 f64) (local $f f64)
         (call $pair (local.get $n))
         (local.set $f (f64.add (f64.const 1)))
         f64.promote_f32 local.get $f f64.add local.set $f
         (i64.mul (i64.extend_i32_s (call $tick (i32.const 4))))
         local.set $i drop local.get $i local.get $f)""".replace("(local $f f64)", "(local $f f64) (local $i i64)")
    .replace("(local.set $f (f64.add (f64.const 1)))", "f64.const 1 f64.add local.set $f")
    .replace(
        "(i64.mul (i64.extend_i32_s (call $tick (i32.const 4))))",
        "(i64.extend_i32_s (call $tick (i32.const 4))) i64.mul",
    ),
)
_program(
    "vectors",
    (4,),
    """(func $v (param v128 i32) (result v128)
         (i32x4.add (local.get 0) (i32x4.splat (call $tick (local.get 1)))))
       (func (export "run") (param $n i32) (result i32) (local $acc v128)
         (local.set $acc (v128.const i32x4 1 2 3 4))
         (loop $l
           (local.set $acc (i32x4.mul (v128.const i32x4 3 5 7 9) (call $v (local.get $acc) (local.get $n))))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (i32.add (i32x4.extract_lane 0 (local.get $acc)) (i32x4.extract_lane 3 (local.get $acc))))""",
)
_program(
    "memory, globals and dropped segments",
    (6,),
    """(memory (export "memory") 1 4) (global $g (mut i64) (i64.const 5)) (global $h (mut f32) (f32.const 1))
       (data $d "\\01\\02\\03\\04") (data (i32.const 100) "hello")
       (func (export "run") (param $n i32) (result i64)
         (memory.init $d (i32.const 8) (i32.const 0) (i32.const 4))
         (data.drop $d)
         (loop $l
           (i32.store (i32.const 100) (i32.add (i32.load (i32.const 8)) (call $tick (local.get $n))))
           (i32.store (i32.const 8) (i32.mul (i32.const 3) (i32.load (i32.const 100))))
           (global.set $g (i64.add (global.get $g) (i64.extend_i32_u (memory.grow (i32.rem_u (local.get $n) (i32.const 2))))))
           (global.set $h (f32.add (global.get $h) (f32.convert_i32_s (call $tick (i32.const 1)))))
           (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (i64.add (i64.mul (global.get $g) (i64.load32_s (i32.const 8))) (i64.trunc_f32_s (global.get $h))))""",
)
_program(
    "dead code",
    (4,),
    """(func (export "run") (param $n i32) (result i32)
         (block $b (result i32)
           (loop $l
             (if (call $tick (local.get $n)) (then
               (br $b (i32.add (call $tick (i32.const 3)) (local.get $n)))
               (drop (call $tick (i32.const 5)))
               (loop (br 0)))
               (else (unreachable) (drop (call $tick))))
             (br $l)
             (drop (i32.add (call $tick (i32.const 1)))))
           (unreachable)
           (block (drop (call $tick (i32.const 1))) (br 0))))""",
)
_program(
    "switch in a loop",
    (30,),
    """(func (export "run") (param $n i32) (result i32) (local $pc i32) (local $acc i32)
         (loop $next
           (block $exit (block $d (block $c (block $b (block $a
             (br_table $a $b $c $d $exit (local.get $pc)))
               (local.set $acc (i32.add (local.get $acc) (local.get $n)))
               (local.set $pc (i32.const 1)) (br $next))
               (local.set $acc (call $tick (local.get $acc)))
               (local.set $pc (i32.const 2)) (br $next))
               (local.set $n (i32.sub (local.get $n) (i32.const 1)))
               (local.set $pc (i32.const 3)) (br $next))
               (local.set $pc (select (i32.const 0) (i32.const 4) (local.get $n))) (br $next)))
         (local.get $acc))""",
)
_program(
    "deep recursion",
    (300,),
    """(func $down (export "run") (param $n i32) (result i32)
         (if (result i32) (i32.eqz (local.get $n))
           (then (call $tick (i32.const 1)))
           (else (i32.add (i32.const 1) (call $down (i32.sub (local.get $n) (i32.const 1)))))))""",
)
_program(
    "exceptions held in locals and operands",
    (6,),
    """(tag $e (param i32 i64)) (tag $v (param v128)) (tag $none)
       (func $raise (param i32)
         (if (i32.eqz (i32.rem_u (local.get 0) (i32.const 3))) (then (throw $e (call $tick (i32.const 1)) (i64.const 77))))
         (if (i32.eq (i32.rem_u (local.get 0) (i32.const 3)) (i32.const 1)) (then (throw $v (v128.const i32x4 1 2 3 4))))
         (if (i32.ne (local.get 0) (i32.const 2)) (then (throw $none))))
       (func $cleanup (param i32) (result i32) (local $held exnref) (local $kept i32)
         (block $done
           (block $caught (result exnref)
             (try_table (catch_all_ref $caught) (call $raise (local.get 0)))
             (br $done))
           (local.set $held)
           (local.set $kept (call $tick (i32.const 3)))
           (if (i32.gt_u (local.get 0) (i32.const 4))
             (then local.get $held local.get $kept call $tick local.set $kept throw_ref))
           (drop (call $tick (local.get $kept)))
           local.get $held throw_ref)
         (i32.add (call $tick (i32.const 5)) (ref.is_null (local.get $held))))
       (func (export "run") (param $n i32) (result i32) (local $sum i32)
         (loop $l
           (block $next
             (block $vector (result v128)
               (block $pair (result i32 i64)
                 (try_table (catch $e $pair) (catch $v $vector) (catch_all $next)
                   (local.set $sum (i32.add (local.get $sum) (call $cleanup (local.get $n)))))
                 (br $next))
               i32.wrap_i64 i32.add local.get $sum i32.add local.set $sum
               (br $next))
             i32x4.extract_lane 2 local.get $sum i32.const 5 i32.mul i32.add local.set $sum)
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (local.get $sum))""",
)
