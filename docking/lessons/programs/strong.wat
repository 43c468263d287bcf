;; Adds up what three stations have. The loop, its turn and the sum are on the stack, and travel.
(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "next") (data (i32.const 8) "stock.count") (data (i32.const 24) "total")
  (func $ask (result i32)
    (drop (call $call (i32.const 8) (i32.const 11) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 1)))
    (i32.load8_u (i32.const 64)))
  (func $run (export "run") (local $turn i32) (local $sum i32)
    (loop $again
      (drop (call $go (i32.const 0) (i32.const 4)))  ;; the next line runs there
      (local.set $sum (i32.add (local.get $sum) (call $ask)))
      (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $turn) (i32.const 3))))
    (i32.store8 (i32.const 64) (local.get $sum))
    (drop (call $report (i32.const 24) (i32.const 5) (i32.const 64) (i32.const 1)))))
