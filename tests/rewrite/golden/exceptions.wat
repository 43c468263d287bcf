(module
  (type (;0;) (func (param i32) (result i32)))
  (type (;1;) (func (param i32)))
  (type (;2;) (func))
  (type (;3;) (func (param i32 i32 i32)))
  (type (;4;) (func (param i32 i32 i32) (result i32)))
  (type (;5;) (func (param i32 i32)))
  (type (;6;) (func))
  (type (;7;) (func (result i32 i32)))
  (type (;8;) (func (param i32 i32 i32 i32)))
  (type (;9;) (func (param i32 i32 i32 i32 i32 i32)))
  (type (;10;) (func (param i32 i32 i32 i32 i32)))
  (type (;11;) (func))
  (import "t" "tick" (func (;0;) (type 0))) ;; tick
  (table (;0;) 2 2 (ref null func))
  (memory (;0;) 1)
  (tag (;0;) (type 1))
  (tag (;1;) (type 2))
  (global (;0;) (mut i32) i32.const 0)
  (global (;1;) (mut i32) i32.const 32)
  (global (;2;) (mut i32) i32.const 32)
  (global (;3;) (mut (ref null exn)) ref.null exn)
  (global (;4;) i32 i32.const 32)
  (export "run" (func 3))
  (export "portcall.frames" (memory 0))
  (export "portcall.base" (global 4))
  (export "portcall.bottom" (global 1))
  (export "portcall.state" (global 0))
  (export "portcall.top" (global 2))
  (export "portcall.link.tag.0" (tag 0))
  (export "portcall.link.tag.1" (tag 1))
  (export "portcall.link.global.3" (global 3))
  (export "portcall.link" (table 0))
  (elem (;0;) (table 0) (offset i32.const 0) func 0 2)
  (func (;1;) (type 0) (param i32) (result i32) ;; thrower
    block
      block
        block
          local.get 0
          call 0 ;; tick
          global.get 0
          br_if 0
          i32.const 1
          i32.and
          if
            local.get 0
            call 0 ;; tick
            global.get 0
            br_if 2
            throw 0
          end
          local.get 0
          i32.const 4
          i32.eq
          if
            throw 1
          end
          i32.const 100
          call 0 ;; tick
          return
        end
        i32.const 1
        local.get 0
        i32.const 0
        call 4 ;; portcall.save...i.0
        br 1
      end
      i32.const 2
      i32.const 0
      call 7 ;; portcall.save....0
    end
    i32.const 0
  )
  (func (;2;) (type 0) (param i32) (result i32) ;; between
    block
      block (type 7)
        block
          local.get 0
          call 1 ;; thrower
          global.get 0
          br_if 0
          i32.const 1
          call 0 ;; tick
          global.get 0
          br_if 1
          i32.add
          return
        end
        i32.const 1
        i32.const 2
        call 7 ;; portcall.save....0
        br 1
      end
      i32.const 2
      i32.const 2
      call 8 ;; portcall.save.i.i..0
    end
    i32.const 0
  )
  (func (;3;) (type 0) (param i32) (result i32)
    (local i32)
    block
      block (type 7)
        block (type 7)
          block
            loop
              block
                block
                  block (result i32)
                    try_table (result i32) (catch 0 0) (catch_all 1)
                      local.get 0
                      call 2 ;; between
                      global.get 0
                      br_if 5
                      local.get 1
                      call 0 ;; tick
                      global.get 0
                      br_if 6
                      i32.add
                    end
                    local.get 1
                    i32.add
                    local.set 1
                    br 2
                  end
                  local.get 1
                  i32.const 3
                  i32.mul
                  i32.sub
                  local.set 1
                  br 1
                end
                local.get 1
                i32.const 1000
                call 0 ;; tick
                global.get 0
                br_if 4
                i32.add
                local.set 1
              end
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
          i32.const 5
          call 9 ;; portcall.save...ii.0
          br 2
        end
        i32.const 2
        local.get 0
        local.get 1
        i32.const 5
        call 10 ;; portcall.save.i.i.ii.0
        br 1
      end
      i32.const 3
      local.get 0
      i32.const 4
      call 11 ;; portcall.save.i.i.i.0
    end
    i32.const 0
  )
  (func (;4;) (type 3) (param i32 i32 i32) ;; portcall.save...i.0
    (local i32)
    local.get 2
    local.get 0
    i32.const 24
    call 5 ;; portcall.begin
    local.set 3
    local.get 3
    local.get 1
    i32.store offset=16 align=1
  )
  (func (;5;) (type 4) (param i32 i32 i32) (result i32) ;; portcall.begin
    (local i32)
    i32.const 1
    global.set 0
    local.get 2
    call 6 ;; portcall.reserve
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
  (func (;6;) (type 0) (param i32) (result i32) ;; portcall.reserve
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
  (func (;7;) (type 5) (param i32 i32) ;; portcall.save....0
    (local i32)
    local.get 1
    local.get 0
    i32.const 16
    call 5 ;; portcall.begin
    local.set 2
  )
  (func (;8;) (type 8) (param i32 i32 i32 i32) ;; portcall.save.i.i..0
    (local i32)
    local.get 3
    local.get 2
    i32.const 24
    call 5 ;; portcall.begin
    local.set 4
    local.get 4
    local.get 0
    i32.store offset=16 align=1
  )
  (func (;9;) (type 8) (param i32 i32 i32 i32) ;; portcall.save...ii.0
    (local i32)
    local.get 3
    local.get 0
    i32.const 32
    call 5 ;; portcall.begin
    local.set 4
    local.get 4
    local.get 1
    i32.store offset=16 align=1
    local.get 4
    local.get 2
    i32.store offset=24 align=1
  )
  (func (;10;) (type 9) (param i32 i32 i32 i32 i32 i32) ;; portcall.save.i.i.ii.0
    (local i32)
    local.get 5
    local.get 2
    i32.const 40
    call 5 ;; portcall.begin
    local.set 6
    local.get 6
    local.get 0
    i32.store offset=16 align=1
    local.get 6
    local.get 3
    i32.store offset=24 align=1
    local.get 6
    local.get 4
    i32.store offset=32 align=1
  )
  (func (;11;) (type 10) (param i32 i32 i32 i32 i32) ;; portcall.save.i.i.i.0
    (local i32)
    local.get 4
    local.get 2
    i32.const 32
    call 5 ;; portcall.begin
    local.set 5
    local.get 5
    local.get 0
    i32.store offset=16 align=1
    local.get 5
    local.get 3
    i32.store offset=24 align=1
  )
  ;; custom section "name": 242 bytes
  ;; custom section "portcall": 197 bytes
  ;; custom section "portcall.resume": 1900 bytes
)
(module
  (type (;0;) (func (param i32) (result i32)))
  (type (;1;) (func (param i32)))
  (type (;2;) (func))
  (type (;3;) (func (param i32 i32 i32)))
  (type (;4;) (func (param i32 i32 i32) (result i32)))
  (type (;5;) (func (param i32 i32)))
  (type (;6;) (func (result i32)))
  (type (;7;) (func (result i32 i32)))
  (type (;8;) (func (param i32 i32 i32 i32)))
  (type (;9;) (func (param i32 i32 i32 i32 i32 i32)))
  (type (;10;) (func (param i32 i32 i32 i32 i32)))
  (type (;11;) (func (result i32 i32 i32)))
  (import "portcall" "portcall.link" (table (;0;) 2 2 (ref null func)))
  (import "portcall" "portcall.frames" (memory (;0;) 1))
  (import "portcall" "portcall.link.tag.0" (tag (;0;) (type 1)))
  (import "portcall" "portcall.link.tag.1" (tag (;1;) (type 2)))
  (import "portcall" "portcall.state" (global (;0;) (mut i32)))
  (import "portcall" "portcall.bottom" (global (;1;) (mut i32)))
  (import "portcall" "portcall.top" (global (;2;) (mut i32)))
  (import "portcall" "portcall.link.global.3" (global (;3;) (mut (ref null exn))))
  (export "portcall.resume" (func 12))
  (func (;0;) (type 2) ;; thrower (resumed)
    (local i32 i32 i32 i32)
    call 3 ;; portcall.site
    local.set 1
    block
      block
        block
          local.get 1
          br_table 0 0 1
        end
        call 4 ;; portcall.load.i.0
        local.set 0
        br 1
      end
      call 5 ;; portcall.load..0
    end
    call 6 ;; portcall.take.i.0
    local.set 2
    block
      block
        block
          block (result i32)
            block
              block
                block
                  local.get 1
                  br_table 0 0 1
                end
                local.get 2
                i32.const 1
                i32.and
                local.set 3
                local.get 3
                i32.eqz
                br_if 1
                local.get 0
                i32.const 0
                call_indirect 0 (type 0)
                global.get 0
                br_if 4
                local.set 2
              end
              local.get 2
              throw 0
            end
            local.get 0
            i32.const 4
            i32.eq
            if
              throw 1
            end
            i32.const 100
            i32.const 0
            call_indirect 0 (type 0)
          end
          call 7 ;; portcall.put.i
          return
        end
        i32.const 1
        local.get 0
        i32.const 0
        call 13 ;; portcall.save...i.0
        br 1
      end
      i32.const 2
      i32.const 0
      call 14 ;; portcall.save....0
    end
  )
  (func (;1;) (type 2) ;; between (resumed)
    (local i32 i32 i32 i32)
    call 3 ;; portcall.site
    local.set 1
    block
      block
        block
          local.get 1
          br_table 0 0 1
        end
        call 5 ;; portcall.load..0
        br 1
      end
      call 4 ;; portcall.load.i.0
      local.set 2
    end
    call 6 ;; portcall.take.i.0
    local.set 3
    block
      block (type 7)
        block
          block (result i32)
            block
              block
                local.get 1
                br_table 0 0 1
              end
              local.get 3
              i32.const 1
              i32.const 0
              call_indirect 0 (type 0)
              global.get 0
              br_if 3
              local.set 3
              local.set 2
            end
            local.get 2
            local.get 3
            i32.add
          end
          call 7 ;; portcall.put.i
          return
        end
        i32.const 1
        i32.const 2
        call 14 ;; portcall.save....0
        br 1
      end
      i32.const 2
      i32.const 2
      call 15 ;; portcall.save.i.i..0
    end
  )
  (func (;2;) (type 2) ;; 3 (resumed)
    (local i32 i32 i32 i32 i32 i32)
    call 3 ;; portcall.site
    local.set 2
    block
      block
        block
          block
            local.get 2
            br_table 0 0 1 2
          end
          call 8 ;; portcall.load.ii.0
          local.set 1
          local.set 0
          br 2
        end
        call 9 ;; portcall.load.iii.0
        local.set 1
        local.set 0
        local.set 3
        br 1
      end
      call 8 ;; portcall.load.ii.0
      local.set 0
      local.set 3
    end
    call 6 ;; portcall.take.i.0
    local.set 4
    block
      block (type 7)
        block (type 7)
          block
            block (result i32)
              block
                br 0
              end
              loop
                block
                  block
                    block
                      block (result i32)
                        block
                          block
                            local.get 2
                            i32.eqz
                            br_if 0
                            local.get 2
                            br_table 1 1 1 4
                          end
                          i32.const 0
                          local.set 2
                        end
                        try_table (result i32) (catch 0 0) (catch_all 1)
                          block
                            block
                              block
                                local.get 2
                                i32.eqz
                                br_if 0
                                local.get 2
                                br_table 1 1 2
                              end
                              local.get 0
                              i32.const 1
                              call_indirect 0 (type 0)
                              global.get 0
                              br_if 9
                              local.set 4
                            end
                            local.get 2
                            if
                              i32.const 0
                              local.set 2
                              call 10 ;; portcall.rethrow
                            end
                            local.get 4
                            local.get 1
                            i32.const 0
                            call_indirect 0 (type 0)
                            global.get 0
                            br_if 9
                            local.set 4
                            local.set 3
                          end
                          local.get 2
                          if
                            i32.const 0
                            local.set 2
                            call 10 ;; portcall.rethrow
                          end
                          local.get 3
                          local.get 4
                          i32.add
                        end
                        local.get 1
                        i32.add
                        local.set 1
                        br 3
                      end
                      local.get 1
                      i32.const 3
                      i32.mul
                      i32.sub
                      local.set 1
                      br 2
                    end
                    local.get 1
                    i32.const 1000
                    i32.const 0
                    call_indirect 0 (type 0)
                    global.get 0
                    br_if 6
                    local.set 4
                    local.set 3
                  end
                  i32.const 0
                  local.set 2
                  local.get 3
                  local.get 4
                  i32.add
                  local.set 1
                end
                local.get 0
                i32.const 1
                i32.sub
                local.tee 0
                br_if 0
              end
              local.get 1
            end
            call 7 ;; portcall.put.i
            return
          end
          i32.const 1
          local.get 0
          local.get 1
          i32.const 5
          call 16 ;; portcall.save...ii.0
          br 2
        end
        i32.const 2
        local.get 0
        local.get 1
        i32.const 5
        call 17 ;; portcall.save.i.i.ii.0
        br 1
      end
      i32.const 3
      local.get 0
      i32.const 4
      call 18 ;; portcall.save.i.i.i.0
    end
  )
  (func (;3;) (type 6) (result i32) ;; portcall.site
    global.get 1
    i32.load offset=4 align=1
  )
  (func (;4;) (type 6) (result i32) ;; portcall.load.i.0
    (local i32)
    global.get 1
    local.tee 0
    i32.const 24
    i32.add
    global.set 1
    local.get 0
    i32.load offset=16 align=1
  )
  (func (;5;) (type 2) ;; portcall.load..0
    (local i32)
    global.get 1
    local.tee 0
    i32.const 16
    i32.add
    global.set 1
  )
  (func (;6;) (type 6) (result i32) ;; portcall.take.i.0
    i32.const 0
    i32.load offset=16 align=1
  )
  (func (;7;) (type 1) (param i32) ;; portcall.put.i
    i32.const 0
    local.get 0
    i32.store offset=16 align=1
  )
  (func (;8;) (type 7) (result i32 i32) ;; portcall.load.ii.0
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
  (func (;9;) (type 11) (result i32 i32 i32) ;; portcall.load.iii.0
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
  (func (;10;) (type 2) ;; portcall.rethrow
    (local (ref null exn))
    global.get 3
    local.tee 0
    ref.is_null
    if
      return
    end
    ref.null exn
    global.set 3
    local.get 0
    throw_ref
  )
  (func (;11;) (type 1) (param i32) ;; portcall.dispatch.0.3
    block
      block
        block
          block
            local.get 0
            i32.const 1
            i32.div_u
            br_table 0 1 2 3
          end
          call 0 ;; thrower (resumed)
          return
        end
        call 1 ;; between (resumed)
        return
      end
      call 2 ;; 3 (resumed)
      return
    end
    unreachable
  )
  (func (;12;) (type 2) ;; portcall.resume
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
        call 10 ;; portcall.rethrow
        return
      end
      global.get 3
      ref.is_null
      i32.eqz
      global.get 1
      i32.load offset=12 align=1
      i32.eqz
      i32.and
      if
        global.get 1
        global.get 1
        i32.load offset=8 align=1
        i32.add
        global.set 1
        br 1
      end
      global.get 2
      local.set 0
      block
        block (result (ref null exn))
          try_table (catch_all_ref 0)
            global.get 1
            i32.load align=1
            call 11 ;; portcall.dispatch.0.3
          end
          br 1
        end
        global.set 3
      end
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
      call 19 ;; portcall.reserve
      global.get 1
      local.get 1
      memory.copy 0 0
      local.get 0
      global.set 1
    end
  )
  (func (;13;) (type 3) (param i32 i32 i32) ;; portcall.save...i.0
    (local i32)
    local.get 2
    local.get 0
    i32.const 24
    call 20 ;; portcall.begin
    local.set 3
    local.get 3
    local.get 1
    i32.store offset=16 align=1
  )
  (func (;14;) (type 5) (param i32 i32) ;; portcall.save....0
    (local i32)
    local.get 1
    local.get 0
    i32.const 16
    call 20 ;; portcall.begin
    local.set 2
  )
  (func (;15;) (type 8) (param i32 i32 i32 i32) ;; portcall.save.i.i..0
    (local i32)
    local.get 3
    local.get 2
    i32.const 24
    call 20 ;; portcall.begin
    local.set 4
    local.get 4
    local.get 0
    i32.store offset=16 align=1
  )
  (func (;16;) (type 8) (param i32 i32 i32 i32) ;; portcall.save...ii.0
    (local i32)
    local.get 3
    local.get 0
    i32.const 32
    call 20 ;; portcall.begin
    local.set 4
    local.get 4
    local.get 1
    i32.store offset=16 align=1
    local.get 4
    local.get 2
    i32.store offset=24 align=1
  )
  (func (;17;) (type 9) (param i32 i32 i32 i32 i32 i32) ;; portcall.save.i.i.ii.0
    (local i32)
    local.get 5
    local.get 2
    i32.const 40
    call 20 ;; portcall.begin
    local.set 6
    local.get 6
    local.get 0
    i32.store offset=16 align=1
    local.get 6
    local.get 3
    i32.store offset=24 align=1
    local.get 6
    local.get 4
    i32.store offset=32 align=1
  )
  (func (;18;) (type 10) (param i32 i32 i32 i32 i32) ;; portcall.save.i.i.i.0
    (local i32)
    local.get 4
    local.get 2
    i32.const 32
    call 20 ;; portcall.begin
    local.set 5
    local.get 5
    local.get 0
    i32.store offset=16 align=1
    local.get 5
    local.get 3
    i32.store offset=24 align=1
  )
  (func (;19;) (type 0) (param i32) (result i32) ;; portcall.reserve
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
  (func (;20;) (type 4) (param i32 i32 i32) (result i32) ;; portcall.begin
    (local i32)
    i32.const 1
    global.set 0
    local.get 2
    call 19 ;; portcall.reserve
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
  ;; custom section "name": 407 bytes
)
