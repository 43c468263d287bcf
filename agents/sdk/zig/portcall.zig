//! The calls that an agent makes of its station (ABI version 1 of the imports `portcall`), for Zig.
//!
//! A call that the station refuses or that fails is an error; `lastErrno` is its number. A function that fills
//! a buffer returns what there is of it, or `error.TooLong` when the buffer is too small (what it was for is
//! kept: call again with more room).

pub const Error = error{ Refused, TooLong };
pub const Level = enum(u32) { err = 0, warning = 1, info = 2, detail = 3 };

/// The error number (WASI) of the last call that failed.
pub var lastErrno: u16 = 0;

const imports = struct {
    extern "portcall" fn go(host: [*]const u8, size: usize) i32;
    extern "portcall" fn go_wait(host: [*]const u8, size: usize, wait_ms: i32) i32;
    extern "portcall" fn go_at(host: [*]const u8, size: usize, entry: [*]const u8, entry_size: usize) i32;
    extern "portcall" fn here(buffer: [*]u8, capacity: usize) i32;
    extern "portcall" fn me(buffer: [*]u8, capacity: usize) i32;
    extern "portcall" fn next_stop(buffer: [*]u8, capacity: usize) i32;
    extern "portcall" fn call(
        service: [*]const u8,
        size: usize,
        request: [*]const u8,
        request_size: usize,
        reply: [*]u8,
        capacity: usize,
    ) i32;
    extern "portcall" fn send(to: [*]const u8, size: usize, message: [*]const u8, message_size: usize) i32;
    extern "portcall" fn recv(buffer: [*]u8, capacity: usize, timeout_ms: i32) i32;
    extern "portcall" fn sender(buffer: [*]u8, capacity: usize) i32;
    extern "portcall" fn accept(buffer: [*]u8, capacity: usize, timeout_ms: i32) i32;
    extern "portcall" fn reply(id: [*]const u8, size: usize, response: [*]const u8, response_size: usize) i32;
    extern "portcall" fn sleep(ms: u32) i32;
    extern "portcall" fn clone(id: [*]u8, capacity: usize) i32;
    extern "portcall" fn fork(count: u32, ids: [*]u8, capacity: usize) i32;
    extern "portcall" fn report(key: [*]const u8, size: usize, value: [*]const u8, value_size: usize) i32;
    extern "portcall" fn log(level: u32, text: [*]const u8, size: usize) i32;
    extern "portcall" fn lookup(service: [*]const u8, size: usize, buffer: [*]u8, capacity: usize) i32;
    extern "portcall" fn exit(code: u32) noreturn;
};

/// Move to a station, with the whole stack; the next line runs there. An error: this is still the origin.
pub fn go(station: []const u8) Error!void {
    _ = try checked(imports.go(station.ptr, station.len));
}

/// The same; sleeps up to `wait_ms` (below 0: for ever) while the station cannot be reached or is full.
pub fn goWait(station: []const u8, wait_ms: i32) Error!void {
    _ = try checked(imports.go_wait(station.ptr, station.len, wait_ms));
}

/// Move to a station without the stack; the export `entry` is called there. Returns only an error.
pub fn goAt(station: []const u8, entry: []const u8) Error!noreturn {
    _ = try checked(imports.go_at(station.ptr, station.len, entry.ptr, entry.len));
    unreachable;
}

/// The name of this station.
pub fn here(buffer: []u8) Error![]u8 {
    return filled(buffer, imports.here(buffer.ptr, buffer.len));
}

/// This agent's id.
pub fn me(buffer: []u8) Error![]u8 {
    return filled(buffer, imports.me(buffer.ptr, buffer.len));
}

/// The itinerary's next stop; empty at its end.
pub fn nextStop(buffer: []u8) Error![]u8 {
    return filled(buffer, imports.next_stop(buffer.ptr, buffer.len));
}

/// The reply of a service of this station.
pub fn call(service: []const u8, request: []const u8, buffer: []u8) Error![]u8 {
    const size = imports.call(service.ptr, service.len, request.ptr, request.len, buffer.ptr, buffer.len);
    return filled(buffer, size);
}

/// Hand a message over for delivery to the agent `to`.
pub fn send(to: []const u8, message: []const u8) Error!void {
    _ = try checked(imports.send(to.ptr, to.len, message.ptr, message.len));
}

/// The next message, waited for at most `timeout_ms` (below 0: for ever).
pub fn recv(buffer: []u8, timeout_ms: i32) Error![]u8 {
    return filled(buffer, imports.recv(buffer.ptr, buffer.len, timeout_ms));
}

/// Who sent the message received last: an agent's id or a station's name.
pub fn sender(buffer: []u8) Error![]u8 {
    return filled(buffer, imports.sender(buffer.ptr, buffer.len));
}

/// The next request of a client, as `message/http`, waited for at most `timeout_ms` (below 0: for ever). Its header
/// `portcall-request` is the id for `reply`.
pub fn accept(buffer: []u8, timeout_ms: i32) Error![]u8 {
    return filled(buffer, imports.accept(buffer.ptr, buffer.len, timeout_ms));
}

/// Answer a request: a response of HTTP/1.1, without `Content-Length`.
pub fn reply(id: []const u8, response: []const u8) Error!void {
    _ = try checked(imports.reply(id.ptr, id.len, response.ptr, response.len));
}

/// Sleep; the agent waits as data and holds no thread.
pub fn sleep(ms: u32) Error!void {
    _ = try checked(imports.sleep(ms));
}

/// Become two agents: the new one's id in the original, null in the clone.
pub fn clone(id: []u8) Error!?[]u8 {
    if (try checked(imports.clone(id.ptr, id.len)) == 0) return null;
    for (id, 0..) |byte, size| {
        if (byte == 0) return id[0..size];
    }
    return id;
}

/// Become `count` agents more, all from here or none: 0 in the original, with their ids in `ids`, a line each and a 0
/// behind them; 1 to `count` in each of them.
pub fn fork(count: u32, ids: []u8) Error!usize {
    return checked(imports.fork(count, ids.ptr, ids.len));
}

/// Append a result to this agent's signed chain.
pub fn report(key: []const u8, value: []const u8) Error!void {
    _ = try checked(imports.report(key.ptr, key.len, value.ptr, value.len));
}

/// One line for the station's log.
pub fn log(level: Level, text: []const u8) void {
    _ = imports.log(@intFromEnum(level), text.ptr, text.len);
}

/// Names of stations that offer a service, best first, a line each.
pub fn lookup(service: []const u8, buffer: []u8) Error![]u8 {
    return filled(buffer, imports.lookup(service.ptr, service.len, buffer.ptr, buffer.len));
}

/// End the agent, at once.
pub fn exit(code: u32) noreturn {
    imports.exit(code);
}

fn checked(result: i32) Error!usize {
    if (result < 0) {
        lastErrno = @intCast(-result);
        return error.Refused;
    }
    return @intCast(result);
}

fn filled(buffer: []u8, result: i32) Error![]u8 {
    const size = try checked(result);
    return if (size > buffer.len) error.TooLong else buffer[0..size];
}
