;; Takes memory until it gets no more; the exit code is how many MiB it has then.
(module
  (import "portcall" "exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "run")
    (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))
    (call $exit (i32.shr_u (memory.size) (i32.const 4)))))
