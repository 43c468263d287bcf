const std = @import("std");
const portcall = @import("portcall");

var seen: [512]u8 = undefined;
var size: usize = 0;
var buffer: [2048]u8 = undefined;

fn note(comptime event: []const u8) void {
    var name: [64]u8 = undefined;
    const separator = if (size == 0) "" else " ";
    const parts = .{ separator, event, portcall.here(&name) catch unreachable };
    size += (std.fmt.bufPrint(seen[size..], "{s}{s}@{s}", parts) catch unreachable).len;
}

export fn portcall_on_departing() void {
    note("departing");
}
export fn portcall_on_arrived() void {
    note("arrived");
}
export fn portcall_on_sleeping() void {
    note("sleeping");
}
export fn portcall_on_woken() void {
    note("woken");
}
export fn portcall_on_cloned() void {
    note("cloned");
}
export fn portcall_on_message() void {
    note("message");
}
export fn portcall_on_budget_low() void {
    note("budget_low");
}
export fn portcall_on_retracted() void {
    note("retracted");
}

pub fn main() !void {
    try portcall.go("beta");
    try portcall.sleep(10);
    var me: [128]u8 = undefined;
    try portcall.send(try portcall.me(&me), "hello");
    _ = try portcall.recv(&buffer, -1);
    if (try portcall.fork(1, &buffer) != 0) return;
    portcall.log(.info, "ready");
    while (!std.mem.eql(u8, try portcall.here(&buffer), "home")) {}
    try portcall.report("seen", seen[0..size]);
}
