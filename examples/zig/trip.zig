const std = @import("std");
const portcall = @import("portcall");

pub fn main() void {
    var route: [64]u8 = undefined;
    var line: [64]u8 = undefined;
    var used: usize = 0;
    var stops: u32 = 0;
    for ([_][]const u8{ "alpha", "beta", "gamma" }) |station| {
        portcall.go(station) catch {
            say(&line, "{s} cannot be reached: error {d}", .{ station, portcall.lastErrno });
            continue;
        };
        if (used > 0) used += 1;
        const name = portcall.here(route[used..]) catch unreachable;
        if (used > 0) route[used - 1] = ' ';
        used += name.len;
        stops += 1;
        say(&line, "stop {d}: {s}", .{ stops, name });
    }
    portcall.report("route", route[0..used]) catch portcall.exit(1);
}

fn say(line: []u8, comptime format: []const u8, values: anytype) void {
    portcall.log(.info, std.fmt.bufPrint(line, format, values) catch unreachable);
}
