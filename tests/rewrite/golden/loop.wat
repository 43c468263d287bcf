(module
  (type (;0;) (func (param i32) (result i32)))
  (type (;1;) (func (result i32 i32)))
  (type (;2;) (func (param i32 i32 i32 i32)))
  (type (;3;) (func (param i32 i32 i32) (result i32)))
  (type (;4;) (func (param i32 i32 i32 i32 i32)))
  (type (;5;) (func))
  (type (;6;) (func))
  (type (;7;) (func))
  (import "t" "tick" (func (;0;) (type 0))) ;; tick
  (table (;0;) 1 1 (ref null func))
  (memory (;0;) 1)
  (global (;0;) (mut i32) i32.const 0)
  (global (;1;) (mut i32) i32.const 32)
  (global (;2;) (mut i32) i32.const 32)
  (global (;3;) i32 i32.const 32)
  (export "run" (func 1))
  (export "portcall.frames" (memory 0))
  (export "portcall.base" (global 3))
  (export "portcall.bottom" (global 1))
  (export "portcall.state" (global 0))
  (export "portcall.top" (global 2))
  (export "portcall.link" (table 0))
  (elem (;0;) (table 0) (offset i32.const 0) func 0)
  (func (;1;) (type 0) (param i32) (result i32)
    (local i32)
    block
      block (type 1)
        block
          loop
            i32.const 0
            i32.load align=4
            br_if 1
            local.get 1
            i32.const 3
            i32.mul
            local.get 0
            call 0 ;; tick
            global.get 0
            br_if 2
            i32.add
            local.set 1
            local.get 0
            i32.const 1
            i32.sub
            local.tee 0
            br_if 0
          end
          local.get 1
          return
        end
        i32.const 1
        local.get 0
        local.get 1
        i32.const 0
        call 2 ;; portcall.save...ii.0
        br 1
      end
      i32.const 2
      local.get 0
      i32.const 0
      call 5 ;; portcall.save.i.i.i.0
    end
    i32.const 0
  )
  (func (;2;) (type 2) (param i32 i32 i32 i32) ;; portcall.save...ii.0
    (local i32)
    local.get 3
    local.get 0
    i32.const 32
    call 3 ;; portcall.begin
    local.set 4
    local.get 4
    local.get 1
    i32.store offset=16 align=1
    local.get 4
    local.get 2
    i32.store offset=24 align=1
  )
  (func (;3;) (type 3) (param i32 i32 i32) (result i32) ;; portcall.begin
    (local i32)
    i32.const 1
    global.set 0
    local.get 2
    call 4 ;; portcall.reserve
    local.set 3
    local.get 3
    local.get 0
    i32.const 1
    i32.shr_u
    i32.store align=1
    local.get 3
    local.get 1
    i32.store offset=4 align=1
    local.get 3
    local.get 2
    i32.store offset=8 align=1
    local.get 3
    local.get 0
    i32.const 1
    i32.and
    i32.store offset=12 align=1
    local.get 3
  )
  (func (;4;) (type 0) (param i32) (result i32) ;; portcall.reserve
    (local i32)
    global.get 2
    local.get 0
    i32.add
    i32.const 65535
    i32.add
    i32.const 16
    i32.shr_u
    local.tee 1
    memory.size 0
    i32.gt_u
    if
      memory.size 0
      memory.grow 0
      i32.const -1
      i32.eq
      local.get 1
      memory.size 0
      i32.gt_u
      i32.or
      if
        local.get 1
        memory.size 0
        i32.sub
        memory.grow 0
        i32.const -1
        i32.eq
        if
          unreachable
        end
      end
    end
    global.get 2
    global.get 2
    local.get 0
    i32.add
    global.set 2
  )
  (func (;5;) (type 4) (param i32 i32 i32 i32 i32) ;; portcall.save.i.i.i.0
    (local i32)
    local.get 4
    local.get 2
    i32.const 32
    call 3 ;; portcall.begin
    local.set 5
    local.get 5
    local.get 0
    i32.store offset=16 align=1
    local.get 5
    local.get 3
    i32.store offset=24 align=1
  )
  ;; custom section "name": 109 bytes
  ;; custom section "portcall": 154 bytes
  ;; custom section "portcall.resume": 956 bytes
)
(module
  (type (;0;) (func (param i32) (result i32)))
  (type (;1;) (func (result i32 i32)))
  (type (;2;) (func (param i32 i32 i32 i32)))
  (type (;3;) (func (param i32 i32 i32) (result i32)))
  (type (;4;) (func (param i32 i32 i32 i32 i32)))
  (type (;5;) (func (result i32)))
  (type (;6;) (func (param i32)))
  (type (;7;) (func))
  (import "portcall" "portcall.link" (table (;0;) 1 1 (ref null func)))
  (import "portcall" "portcall.frames" (memory (;0;) 1))
  (import "portcall" "portcall.state" (global (;0;) (mut i32)))
  (import "portcall" "portcall.bottom" (global (;1;) (mut i32)))
  (import "portcall" "portcall.top" (global (;2;) (mut i32)))
  (export "portcall.resume" (func 6))
  (func (;0;) (type 7) ;; 1 (resumed)
    (local i32 i32 i32 i32 i32)
    call 1 ;; portcall.site
    local.set 2
    block
      block
        block
          local.get 2
          br_table 0 0 1
        end
        call 2 ;; portcall.load.ii.0
        local.set 1
        local.set 0
        br 1
      end
      call 2 ;; portcall.load.ii.0
      local.set 0
      local.set 3
    end
    call 3 ;; portcall.take.i.0
    local.set 4
    block
      block (type 1)
        block
          block (result i32)
            block
              br 0
            end
            loop
              block
                block
                  block
                    local.get 2
                    i32.eqz
                    br_if 0
                    local.get 2
                    i32.const 0
                    local.set 2
                    br_table 1 1 2
                  end
                  i32.const 0
                  i32.load align=4
                  br_if 4
                end
                local.get 1
                i32.const 3
                i32.mul
                local.get 0
                i32.const 0
                call_indirect 0 (type 0)
                global.get 0
                br_if 4
                local.set 4
                local.set 3
              end
              local.get 3
              local.get 4
              i32.add
              local.set 1
              local.get 0
              i32.const 1
              i32.sub
              local.tee 0
              br_if 0
            end
            local.get 1
          end
          call 4 ;; portcall.put.i
          return
        end
        i32.const 1
        local.get 0
        local.get 1
        i32.const 0
        call 7 ;; portcall.save...ii.0
        br 1
      end
      i32.const 2
      local.get 0
      i32.const 0
      call 8 ;; portcall.save.i.i.i.0
    end
  )
  (func (;1;) (type 5) (result i32) ;; portcall.site
    global.get 1
    i32.load offset=4 align=1
  )
  (func (;2;) (type 1) (result i32 i32) ;; portcall.load.ii.0
    (local i32)
    global.get 1
    local.tee 0
    i32.const 32
    i32.add
    global.set 1
    local.get 0
    i32.load offset=16 align=1
    local.get 0
    i32.load offset=24 align=1
  )
  (func (;3;) (type 5) (result i32) ;; portcall.take.i.0
    i32.const 0
    i32.load offset=16 align=1
  )
  (func (;4;) (type 6) (param i32) ;; portcall.put.i
    i32.const 0
    local.get 0
    i32.store offset=16 align=1
  )
  (func (;5;) (type 6) (param i32) ;; portcall.dispatch.0.1
    block
      block
        local.get 0
        i32.const 1
        i32.div_u
        br_table 0 1
      end
      call 0 ;; 1 (resumed)
      return
    end
    unreachable
  )
  (func (;6;) (type 7) ;; portcall.resume
    (local i32 i32)
    i32.const 0
    global.set 0
    loop
      global.get 1
      global.get 2
      i32.eq
      if
        i32.const 32
        global.set 1
        i32.const 32
        global.set 2
        return
      end
      global.get 2
      local.set 0
      global.get 1
      i32.load align=1
      call 5 ;; portcall.dispatch.0.1
      global.get 0
      i32.eqz
      br_if 0
    end
    global.get 2
    local.get 0
    i32.sub
    local.tee 1
    global.get 1
    i32.const 32
    i32.sub
    i32.le_u
    if
      global.get 1
      local.get 1
      i32.sub
      global.set 1
      global.get 1
      local.get 0
      local.get 1
      memory.copy 0 0
      local.get 0
      global.set 2
    else
      local.get 0
      global.get 1
      i32.sub
      local.set 1
      local.get 1
      call 9 ;; portcall.reserve
      global.get 1
      local.get 1
      memory.copy 0 0
      local.get 0
      global.set 1
    end
  )
  (func (;7;) (type 2) (param i32 i32 i32 i32) ;; portcall.save...ii.0
    (local i32)
    local.get 3
    local.get 0
    i32.const 32
    call 10 ;; portcall.begin
    local.set 4
    local.get 4
    local.get 1
    i32.store offset=16 align=1
    local.get 4
    local.get 2
    i32.store offset=24 align=1
  )
  (func (;8;) (type 4) (param i32 i32 i32 i32 i32) ;; portcall.save.i.i.i.0
    (local i32)
    local.get 4
    local.get 2
    i32.const 32
    call 10 ;; portcall.begin
    local.set 5
    local.get 5
    local.get 0
    i32.store offset=16 align=1
    local.get 5
    local.get 3
    i32.store offset=24 align=1
  )
  (func (;9;) (type 0) (param i32) (result i32) ;; portcall.reserve
    (local i32)
    global.get 2
    local.get 0
    i32.add
    i32.const 65535
    i32.add
    i32.const 16
    i32.shr_u
    local.tee 1
    memory.size 0
    i32.gt_u
    if
      memory.size 0
      memory.grow 0
      i32.const -1
      i32.eq
      local.get 1
      memory.size 0
      i32.gt_u
      i32.or
      if
        local.get 1
        memory.size 0
        i32.sub
        memory.grow 0
        i32.const -1
        i32.eq
        if
          unreachable
        end
      end
    end
    global.get 2
    global.get 2
    local.get 0
    i32.add
    global.set 2
  )
  (func (;10;) (type 3) (param i32 i32 i32) (result i32) ;; portcall.begin
    (local i32)
    i32.const 1
    global.set 0
    local.get 2
    call 9 ;; portcall.reserve
    local.set 3
    local.get 3
    local.get 0
    i32.const 1
    i32.shr_u
    i32.store align=1
    local.get 3
    local.get 1
    i32.store offset=4 align=1
    local.get 3
    local.get 2
    i32.store offset=8 align=1
    local.get 3
    local.get 0
    i32.const 1
    i32.and
    i32.store offset=12 align=1
    local.get 3
  )
  ;; custom section "name": 206 bytes
)
