(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "here" (func $here (param i32 i32) (result i32)))
  (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "hello from ")
  (data (i32.const 64) "alpha beta  gamma ")      ;; three names, six bytes each
  (data (i32.const 96) "\05\04\05")               ;; and their lengths
  (func (export "_start") (local $stop i32)
    (loop $tour
      (drop (call $log (i32.const 2) (i32.const 0)  ;; say hello from here
        (i32.add (i32.const 11) (call $here (i32.const 11) (i32.const 32)))))
      (drop (call $go                               ;; move on: the next line runs there
        (i32.add (i32.const 64) (i32.mul (local.get $stop) (i32.const 6)))
        (i32.load8_u offset=96 (local.get $stop))))
      (local.set $stop (i32.add (local.get $stop) (i32.const 1)))
      (br_if $tour (i32.lt_u (local.get $stop) (i32.const 3))))
    (drop (call $log (i32.const 2) (i32.const 0)
      (i32.add (i32.const 11) (call $here (i32.const 11) (i32.const 32)))))))
