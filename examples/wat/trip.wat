(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "here" (func $here (param i32 i32) (result i32)))
  (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "alpha   beta    gamma   \05\04\05")  ;; three names of eight bytes, then their lengths
  (data (i32.const 32) "stop 0: ")
  (data (i32.const 48) " cannot be reached: error 00")
  (data (i32.const 80) "route")
  (global $line (mut i32) (i32.const 128))                  ;; where the line that is being written ends
  (global $route (mut i32) (i32.const 256))                 ;; where the list of stops ends

  (func $write (param $from i32) (param $size i32)
    (memory.copy (global.get $line) (local.get $from) (local.get $size))
    (global.set $line (i32.add (global.get $line) (local.get $size))))

  (func $say                                                ;; the line goes to the station's log
    (drop (call $log (i32.const 2) (i32.const 128) (i32.sub (global.get $line) (i32.const 128))))
    (global.set $line (i32.const 128)))

  (func $refused (param $name i32) (param $size i32) (param $error i32)
    (i32.store8 (i32.const 74) (i32.add (i32.const 48) (i32.div_u (local.get $error) (i32.const 10))))
    (i32.store8 (i32.const 75) (i32.add (i32.const 48) (i32.rem_u (local.get $error) (i32.const 10))))
    (call $write (local.get $name) (local.get $size))
    (call $write (i32.const 48) (i32.const 28))
    (call $say))

  (func $arrived (local $name i32) (local $size i32)
    (if (i32.ne (global.get $route) (i32.const 256))        ;; a space between two names
      (then (i32.store8 (global.get $route) (i32.const 32))
            (global.set $route (i32.add (global.get $route) (i32.const 1)))))
    (local.set $name (global.get $route))
    (local.set $size (call $here (local.get $name) (i32.const 64)))
    (global.set $route (i32.add (local.get $name) (local.get $size)))
    (i32.store8 (i32.const 37) (i32.add (i32.load8_u (i32.const 37)) (i32.const 1)))  ;; one stop more
    (call $write (i32.const 32) (i32.const 8))
    (call $write (local.get $name) (local.get $size))
    (call $say))

  (func (export "run") (local $stop i32) (local $name i32) (local $size i32) (local $error i32)
    (loop $trip
      (local.set $name (i32.mul (local.get $stop) (i32.const 8)))
      (local.set $size (i32.load8_u offset=24 (local.get $stop)))
      (local.set $error (call $go (local.get $name) (local.get $size)))  ;; the next line runs there
      (if (local.get $error)
        (then (call $refused (local.get $name) (local.get $size) (i32.sub (i32.const 0) (local.get $error))))
        (else (call $arrived)))
      (local.set $stop (i32.add (local.get $stop) (i32.const 1)))
      (br_if $trip (i32.lt_u (local.get $stop) (i32.const 3))))
    (drop (call $report (i32.const 80) (i32.const 5)
      (i32.const 256) (i32.sub (global.get $route) (i32.const 256))))))
