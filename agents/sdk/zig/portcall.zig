//! The calls that an agent makes of its station (ABI version 1 of the imports `portcall`), for Zig.
//!
//! A call that the station refuses or that fails is an error; `lastErrno` is its number. A function that fills
//! a buffer returns what there is of it, or `error.TooLong` when the buffer is too small (what it was for is
//! kept: call again with more room).

const std = @import("std");

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
    extern "portcall" fn select(
        from: [*]const u8,
        size: usize,
        topic: [*]const u8,
        topic_size: usize,
        buffer: [*]u8,
        capacity: usize,
        timeout_ms: i32,
    ) i32;
    extern "portcall" fn about(buffer: [*]u8, capacity: usize) i32;
    extern "portcall" fn ask(
        to: [*]const u8,
        size: usize,
        topic: [*]const u8,
        topic_size: usize,
        question: [*]const u8,
        question_size: usize,
        timeout_ms: i32,
        id: [*]u8,
        capacity: usize,
    ) i32;
    extern "portcall" fn answer(id: [*]const u8, size: usize, buffer: [*]u8, capacity: usize, timeout_ms: i32) i32;
    extern "portcall" fn subscribe(topic: [*]const u8, size: usize) i32;
    extern "portcall" fn unsubscribe(topic: [*]const u8, size: usize) i32;
    extern "portcall" fn publish(
        topic: [*]const u8,
        size: usize,
        message: [*]const u8,
        message_size: usize,
        everywhere: i32,
    ) i32;
    extern "portcall" fn offer(service: [*]const u8, size: usize, attributes: [*]const u8, attributes_size: usize) i32;
    extern "portcall" fn withdraw(service: [*]const u8, size: usize) i32;
    extern "portcall" fn find(
        service: [*]const u8,
        size: usize,
        label: [*]const u8,
        label_size: usize,
        everywhere: i32,
        buffer: [*]u8,
        capacity: usize,
    ) i32;
    extern "portcall" fn send_here(to: [*]const u8, size: usize, message: [*]const u8, message_size: usize) i32;
    extern "portcall" fn accept(buffer: [*]u8, capacity: usize, timeout_ms: i32) i32;
    extern "portcall" fn reply(id: [*]const u8, size: usize, response: [*]const u8, response_size: usize) i32;
    extern "portcall" fn sleep(ms: u32) i32;
    extern "portcall" fn clone(id: [*]u8, capacity: usize) i32;
    extern "portcall" fn fork(count: u32, ids: [*]u8, capacity: usize) i32;
    extern "portcall" fn notice(buffer: [*]u8, capacity: usize) i32;
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

/// A message, and what is known of it. All of it lies in the buffer that was given for it.
pub const Message = struct {
    body: []u8,
    /// An agent's id or a station's name.
    sender: []const u8,
    /// May be empty.
    topic: []const u8,
    /// What `reply` takes; empty if the message is no question.
    id: []const u8,

    /// Answer it, if it is a question, here or at a later station: once.
    pub fn answer(self: Message, response: []const u8) Error!void {
        try reply(self.id, response);
    }
};

/// Bytes of a buffer that `receive` needs beside those of the message.
pub const about_size = 1024 + 256 + 128 + 2;

/// The next message of the agent or station `from`, about `topic` (empty: any), waited for at most `timeout_ms` (below 0:
/// for ever). The first `about_size` bytes of the buffer are for what is known of the message.
pub fn receive(from: []const u8, topic: []const u8, buffer: []u8, timeout_ms: i32) Error!Message {
    if (buffer.len < about_size) return error.TooLong;
    const room = buffer[about_size..];
    const got = imports.select(from.ptr, from.len, topic.ptr, topic.len, room.ptr, room.len, timeout_ms);
    const body = try filled(room, got);
    const known = try filled(buffer[0..about_size], imports.about(buffer.ptr, about_size));
    var parts = std.mem.splitScalar(u8, known, '\n');
    const who = parts.first();
    const what = parts.next() orelse "";
    return .{ .body = body, .sender = who, .topic = what, .id = parts.rest() };
}

/// A question that was asked. Its answer can be taken here or at a later station, once.
pub const Question = struct {
    name: [64]u8 = undefined,
    size: usize = 0,

    /// The answer, waited for at most `timeout_ms` (below 0: as long as it may come). An error: none came
    /// (`lastErrno` 73), or the question could not be delivered (23).
    pub fn answer(self: *const Question, buffer: []u8, timeout_ms: i32) Error![]u8 {
        return filled(buffer, imports.answer(&self.name, self.size, buffer.ptr, buffer.len, timeout_ms));
    }
};

/// Ask the agent `to`, about `topic` (may be empty), and go on. An answer that comes after `timeout_ms` is dropped (below
/// 0: after 7 days).
pub fn ask(to: []const u8, topic: []const u8, message: []const u8, timeout_ms: i32) Error!Question {
    var asked: Question = .{};
    asked.size = (try filled(&asked.name, imports.ask(
        to.ptr,
        to.len,
        topic.ptr,
        topic.len,
        message.ptr,
        message.len,
        timeout_ms,
        &asked.name,
        asked.name.len,
    ))).len;
    return asked;
}

/// Receive what is published to a topic, from now on and wherever this agent goes.
pub fn subscribe(topic: []const u8) Error!void {
    _ = try checked(imports.subscribe(topic.ptr, topic.len));
}

/// Receive what is published to a topic no more.
pub fn unsubscribe(topic: []const u8) Error!void {
    _ = try checked(imports.unsubscribe(topic.ptr, topic.len));
}

/// Where other agents are.
pub const Where = enum(i32) { here = 0, everywhere = 1 };

/// Send a message to the other agents here, or everywhere, that subscribe to a topic; how many got it here.
pub fn publish(topic: []const u8, message: []const u8, where: Where) Error!usize {
    return checked(imports.publish(topic.ptr, topic.len, message.ptr, message.len, @intFromEnum(where)));
}

/// Offer a service to other agents while this one is here; `attributes` is what they are told of it.
pub fn offer(service: []const u8, attributes: []const u8) Error!void {
    _ = try checked(imports.offer(service.ptr, service.len, attributes.ptr, attributes.len));
}

/// Offer a service no more.
pub fn withdraw(service: []const u8) Error!void {
    _ = try checked(imports.withdraw(service.ptr, service.len));
}

/// An agent that was found, and what it says of its service.
pub const Found = struct { id: []const u8, station: []const u8, label: []const u8, attributes: []const u8 };

/// Agents that were found: `while (agents.next()) |agent|`.
pub const FoundAgents = struct {
    lines: []const u8,

    pub fn next(self: *FoundAgents) ?Found {
        if (self.lines.len == 0) return null;
        const end = std.mem.indexOfScalar(u8, self.lines, '\n') orelse self.lines.len;
        var parts = std.mem.splitScalar(u8, self.lines[0..end], '\t');
        self.lines = self.lines[@min(end + 1, self.lines.len)..];
        const id = parts.first();
        const station = parts.next() orelse "";
        const label = parts.next() orelse "";
        return .{ .id = id, .station = station, .label = label, .attributes = parts.rest() };
    }
};

/// The other agents here, or everywhere, that offer `service` and have `label` (empty: any). They lie in the buffer.
pub fn find(service: []const u8, label: []const u8, where: Where, buffer: []u8) Error!FoundAgents {
    const everywhere = @intFromEnum(where);
    const size = imports.find(service.ptr, service.len, label.ptr, label.len, everywhere, buffer.ptr, buffer.len);
    return .{ .lines = try filled(buffer, size) };
}

/// A local channel to an agent that is at this station.
pub const Channel = struct {
    agent: []const u8,

    /// Send it a message; an error (`lastErrno` 23) when it is not here any more.
    pub fn send(self: Channel, message: []const u8) Error!void {
        _ = try checked(imports.send_here(self.agent.ptr, self.agent.len, message.ptr, message.len));
    }

    /// Its next message: see the function `receive`.
    pub fn receive(self: Channel, buffer: []u8, timeout_ms: i32) Error!Message {
        return receiveAny(self.agent, "", buffer, timeout_ms);
    }
};

const receiveAny = receive;

/// A local channel to another agent that is here, by its id.
pub fn meet(agent: []const u8) Channel {
    return .{ .agent = agent };
}

/// The next request of a client, as `message/http`, waited for at most `timeout_ms` (below 0: for ever). Its header
/// `portcall-request` is the id for `reply`.
pub fn accept(buffer: []u8, timeout_ms: i32) Error![]u8 {
    return filled(buffer, imports.accept(buffer.ptr, buffer.len, timeout_ms));
}

/// Answer a request: a response of HTTP/1.1, without `Content-Length`. Or answer the question of an agent: see `Message`.
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

/// What this station has to tell by itself, once: `retracted`, `budget_low cpu`, `budget_low messages`; empty if there is
/// nothing. An agent that exports `portcall_on_retracted` or `portcall_on_budget_low` is told by these.
pub fn notice(buffer: []u8) Error![]u8 {
    return filled(buffer, imports.notice(buffer.ptr, buffer.len));
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
