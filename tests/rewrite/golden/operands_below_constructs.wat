(module
  (type (;0;) (func (param i32) (result i32)))
  (type (;1;) (func (result i32 i32)))
  (type (;2;) (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (type (;3;) (func (param i32 i32 i32) (result i32)))
  (type (;4;) (func (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (type (;5;) (func (param i32 i32 i32 i32 i32)))
  (type (;6;) (func (result i32)))
  (type (;7;) (func (result i32 i32 i32 i32 i32 i32)))
  (type (;8;) (func (result i32 i32 i32)))
  (type (;9;) (func (param i32)))
  (type (;10;) (func))
  (import "t" "tick" (func (;0;) (type 0))) ;; tick
  (table (;0;) 5 5 (ref null func))
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
  (elem (;0;) (table 0) (offset i32.const 0) func 0 2 4 5 6)
  (func (;1;) (type 0) (param i32) (result i32)
    (local i32 i32 i32 i32 i32 i32)
    block
      block
        block (result i32)
          block (type 1)
            i32.const 1000
            local.get 0
            local.set 3
            local.set 2
            local.get 2
            local.get 3
            block (result i32)
              i32.const 50
              local.set 4
              local.get 4
              loop (result i32)
                i32.const 7
                local.get 0
                call 0 ;; tick
                global.get 0
                br_if 2
                local.set 6
                local.set 5
                local.get 5
                local.get 6
                if (result i32)
                  i32.const 1
                  call 0 ;; tick
                  i32.const 2
                  global.get 0
                  br_if 4
                  drop
                else
                  i32.const 2
                  call 0 ;; tick
                  i32.const 3
                  global.get 0
                  br_if 4
                  drop
                end
                i32.sub
                local.get 1
                i32.const 1
                i32.add
                local.set 1
                local.get 1
                i32.const 5
                i32.gt_u
                br_if 1
                drop
                local.get 1
                local.get 0
                i32.lt_u
                br_if 0
                local.get 1
                call 0 ;; tick
                global.get 0
                br_if 4
              end
              i32.mul
            end
            i32.add
            i32.xor
            return
          end
          i32.const 1
          local.get 0
          local.get 1
          local.get 2
          local.get 3
          local.get 4
          i32.const 0
          call 2 ;; portcall.save.i.i.iiiii.0
          br 2
        end
        local.get 0
        local.get 1
        local.get 2
        local.get 3
        local.get 4
        local.get 5
        i32.const 0
        call 5 ;; portcall.save...iiiiii.0
        br 1
      end
      i32.const 4
      local.get 2
      local.get 3
      local.get 4
      i32.const 0
      call 6 ;; portcall.save...iii.0
    end
    i32.const 0
  )
  (func (;2;) (type 2) (param i32 i32 i32 i32 i32 i32 i32 i32 i32) ;; portcall.save.i.i.iiiii.0
    (local i32)
    local.get 8
    local.get 2
    i32.const 64
    call 3 ;; portcall.begin
    local.set 9
    local.get 9
    local.get 0
    i32.store offset=16 align=1
    local.get 9
    local.get 3
    i32.store offset=24 align=1
    local.get 9
    local.get 4
    i32.store offset=32 align=1
    local.get 9
    local.get 5
    i32.store offset=40 align=1
    local.get 9
    local.get 6
    i32.store offset=48 align=1
    local.get 9
    local.get 7
    i32.store offset=56 align=1
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
  (func (;5;) (type 4) (param i32 i32 i32 i32 i32 i32 i32 i32) ;; portcall.save...iiiiii.0
    (local i32)
    local.get 7
    local.get 0
    i32.const 64
    call 3 ;; portcall.begin
    local.set 8
    local.get 8
    local.get 1
    i32.store offset=16 align=1
    local.get 8
    local.get 2
    i32.store offset=24 align=1
    local.get 8
    local.get 3
    i32.store offset=32 align=1
    local.get 8
    local.get 4
    i32.store offset=40 align=1
    local.get 8
    local.get 5
    i32.store offset=48 align=1
    local.get 8
    local.get 6
    i32.store offset=56 align=1
  )
  (func (;6;) (type 5) (param i32 i32 i32 i32 i32) ;; portcall.save...iii.0
    (local i32)
    local.get 4
    local.get 0
    i32.const 40
    call 3 ;; portcall.begin
    local.set 5
    local.get 5
    local.get 1
    i32.store offset=16 align=1
    local.get 5
    local.get 2
    i32.store offset=24 align=1
    local.get 5
    local.get 3
    i32.store offset=32 align=1
  )
  ;; custom section "name": 141 bytes
  ;; custom section "portcall": 173 bytes
  ;; custom section "portcall.resume": 981 bytes
)
(module
  (type (;0;) (func (param i32) (result i32)))
  (type (;1;) (func (result i32 i32)))
  (type (;2;) (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (type (;3;) (func (param i32 i32 i32) (result i32)))
  (type (;4;) (func (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (type (;5;) (func (param i32 i32 i32 i32 i32)))
  (type (;6;) (func (result i32)))
  (type (;7;) (func (result i32 i32 i32 i32 i32 i32)))
  (type (;8;) (func (result i32 i32 i32)))
  (type (;9;) (func (param i32)))
  (type (;10;) (func))
  (import "portcall" "portcall.link" (table (;0;) 5 5 (ref null func)))
  (import "portcall" "portcall.frames" (memory (;0;) 1))
  (import "portcall" "portcall.state" (global (;0;) (mut i32)))
  (import "portcall" "portcall.bottom" (global (;1;) (mut i32)))
  (import "portcall" "portcall.top" (global (;2;) (mut i32)))
  (export "portcall.resume" (func 7))
  (func (;0;) (type 10) ;; 1 (resumed)
    (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
    call 1 ;; portcall.site
    local.set 6
    block
      block
        block
          block
            local.get 6
            br_table 0 0 1 1 2
          end
          call 2 ;; portcall.load.iiiiii.0
          local.set 4
          local.set 3
          local.set 2
          local.set 1
          local.set 0
          local.set 7
          br 2
        end
        call 2 ;; portcall.load.iiiiii.0
        local.set 5
        local.set 4
        local.set 3
        local.set 2
        local.set 1
        local.set 0
        br 1
      end
      call 3 ;; portcall.load.iii.0
      local.set 4
      local.set 3
      local.set 2
    end
    call 4 ;; portcall.take.i.0
    local.set 8
    block
      block
        block (result i32)
          block (type 1)
            block (result i32)
              block (result i32)
                block
                  br 0
                end
                loop (result i32)
                  block
                    block (result i32)
                      block
                        block
                          block
                            block
                              block
                                local.get 6
                                i32.eqz
                                br_if 0
                                local.get 6
                                i32.const 0
                                local.set 6
                                br_table 1 1 2 4 6
                              end
                              i32.const 7
                              local.get 0
                              i32.const 0
                              call_indirect 0 (type 0)
                              global.get 0
                              br_if 9
                              local.set 8
                              local.set 7
                            end
                            local.get 7
                            local.get 8
                            local.set 9
                            local.set 5
                            local.get 9
                            i32.eqz
                            br_if 1
                            i32.const 1
                            i32.const 0
                            call_indirect 0 (type 0)
                            i32.const 2
                            global.get 0
                            br_if 9
                            drop
                            local.set 8
                          end
                          local.get 8
                          br 2
                        end
                        i32.const 2
                        i32.const 0
                        call_indirect 0 (type 0)
                        i32.const 3
                        global.get 0
                        br_if 7
                        drop
                        local.set 8
                      end
                      local.get 8
                    end
                    local.set 10
                    local.get 5
                    local.get 10
                    i32.sub
                    local.get 1
                    i32.const 1
                    i32.add
                    local.set 1
                    local.get 1
                    i32.const 5
                    i32.gt_u
                    br_if 2
                    drop
                    local.get 1
                    local.get 0
                    i32.lt_u
                    br_if 1
                    local.get 1
                    i32.const 0
                    call_indirect 0 (type 0)
                    global.get 0
                    br_if 6
                    local.set 8
                  end
                  local.get 8
                end
                local.set 10
                local.get 4
                local.get 10
                i32.mul
              end
              local.set 10
              local.get 2
              local.get 3
              local.get 10
              i32.add
              i32.xor
            end
            call 5 ;; portcall.put.i
            return
          end
          i32.const 1
          local.get 0
          local.get 1
          local.get 2
          local.get 3
          local.get 4
          i32.const 0
          i32.const 1
          call_indirect 0 (type 2)
          br 2
        end
        local.get 0
        local.get 1
        local.get 2
        local.get 3
        local.get 4
        local.get 5
        i32.const 0
        i32.const 3
        call_indirect 0 (type 4)
        br 1
      end
      i32.const 4
      local.get 2
      local.get 3
      local.get 4
      i32.const 0
      i32.const 4
      call_indirect 0 (type 5)
    end
  )
  (func (;1;) (type 6) (result i32) ;; portcall.site
    global.get 1
    i32.load offset=4 align=1
  )
  (func (;2;) (type 7) (result i32 i32 i32 i32 i32 i32) ;; portcall.load.iiiiii.0
    (local i32)
    global.get 1
    local.tee 0
    i32.const 64
    i32.add
    global.set 1
    local.get 0
    i32.load offset=16 align=1
    local.get 0
    i32.load offset=24 align=1
    local.get 0
    i32.load offset=32 align=1
    local.get 0
    i32.load offset=40 align=1
    local.get 0
    i32.load offset=48 align=1
    local.get 0
    i32.load offset=56 align=1
  )
  (func (;3;) (type 8) (result i32 i32 i32) ;; portcall.load.iii.0
    (local i32)
    global.get 1
    local.tee 0
    i32.const 40
    i32.add
    global.set 1
    local.get 0
    i32.load offset=16 align=1
    local.get 0
    i32.load offset=24 align=1
    local.get 0
    i32.load offset=32 align=1
  )
  (func (;4;) (type 6) (result i32) ;; portcall.take.i.0
    i32.const 0
    i32.load offset=16 align=1
  )
  (func (;5;) (type 9) (param i32) ;; portcall.put.i
    i32.const 0
    local.get 0
    i32.store offset=16 align=1
  )
  (func (;6;) (type 9) (param i32) ;; portcall.dispatch.0.1
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
  (func (;7;) (type 10) ;; portcall.resume
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
      call 6 ;; portcall.dispatch.0.1
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
      i32.const 2
      call_indirect 0 (type 0)
      global.get 1
      local.get 1
      memory.copy 0 0
      local.get 0
      global.set 1
    end
  )
  ;; custom section "name": 152 bytes
)
