;; 600: exceptions thrown and caught across calls (try_table): what setjmp is compiled to; Asyncify refuses them
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (tag $found (param i32))
  (func $search (param $n i32) (param $goal i32)
    (if (i32.eq (i32.and (local.get $n) (i32.const 15)) (local.get $goal)) (then (throw $found (local.get $n))))
    (if (i32.eq (local.get $n) (i32.const -1)) (then (drop (call $sched_yield))))
    (call $search (i32.add (i32.mul (local.get $n) (i32.const 5)) (i32.const 3)) (local.get $goal)))
  (func $attempt (param $n i32) (result i32)
    (block $caught (result i32)
      (try_table (catch $found $caught)
        (call $search (local.get $n) (i32.and (local.get $n) (i32.const 15))))
      (unreachable)))
  (func (export "run") (param $turns i32) (result i32)
    (local $n i32) (local $sum i32)
    (loop $outer
      (local.set $n (i32.const 2000))
      (loop $inner
        (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 31)) (call $attempt (local.get $n))))
        (br_if $inner (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (br_if $outer (i32.gt_s (local.tee $turns (i32.sub (local.get $turns) (i32.const 1))) (i32.const 0))))
    (local.get $sum)))
