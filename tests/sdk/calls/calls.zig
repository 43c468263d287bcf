const std = @import("std");
const portcall = @import("portcall");

var a: [8192]u8 = undefined;
var b: [8192]u8 = undefined;
var c: [8192]u8 = undefined;

fn tell(comptime format: []const u8, values: anytype) void {
    var line: [8192]u8 = undefined;
    portcall.log(.info, std.fmt.bufPrint(&line, format, values) catch unreachable);
}

fn failed(what: []const u8) void {
    tell("{s} error {d}", .{ what, portcall.lastErrno });
}

fn all() !void {
    tell("{s} {s} [{s}]", .{ try portcall.here(&a), try portcall.me(&b), try portcall.nextStop(&c) });
    tell("{s}", .{try portcall.call("clock", "please", &a)});
    if (portcall.call("large", "", a[0..10])) |_| unreachable else |problem| std.debug.assert(problem == error.TooLong);
    tell("{d}", .{(try portcall.call("large", "", &a)).len});
    if (portcall.call("oracle", "", &a)) |_| unreachable else |_| failed("oracle");
    const known = try portcall.lookup("clock", &a);
    std.mem.replaceScalar(u8, known, '\n', ' ');
    tell("{s} [{s}]", .{ known, try portcall.lookup("oracle", &b) });
    try portcall.send("friend", "hi");
    portcall.send("nobody", "hi") catch failed("send");
    tell("{s} from {s}", .{ try portcall.recv(&a, -1), try portcall.sender(&b) });
    if (portcall.recv(a[0..10], -1)) |_| unreachable else |problem| std.debug.assert(problem == error.TooLong);
    tell("{d} from {s}", .{ (try portcall.recv(&a, -1)).len, try portcall.sender(&b) });
    if (portcall.recv(&a, 250)) |_| unreachable else |_| failed("recv");
    if (portcall.accept(a[0..10], -1)) |_| unreachable else |problem| std.debug.assert(problem == error.TooLong);
    tell("{s}", .{(try portcall.accept(&a, -1))[0..3]});
    try portcall.reply("alpha.7", "hi");
    portcall.reply("alpha.7", "hi") catch failed("reply");
    if (portcall.accept(&a, 250)) |_| unreachable else |_| failed("accept");
    if (portcall.receive("", "", a[0..10], -1)) |_| unreachable else |problem| std.debug.assert(problem == error.TooLong);
    const message = try portcall.receive("friend", "news", &a, -1);
    tell("{s} from {s} about {s}", .{ message.body, message.sender, message.topic });
    try message.answer("ok");
    if (portcall.receive("", "", &a, 250)) |_| unreachable else |_| failed("receive");
    const question = try portcall.ask("friend", "price?", "how much", 30000);
    if (question.answer(a[0..10], -1)) |_| unreachable else |problem| std.debug.assert(problem == error.TooLong);
    tell("{d}", .{(try question.answer(&a, -1)).len});
    const another = try portcall.ask("friend", "", "more", 250);
    if (another.answer(&a, 250)) |_| unreachable else |_| failed("answer");
    if (portcall.ask("nobody", "", "", -1)) |_| unreachable else |_| failed("ask");
    try portcall.subscribe("news");
    try portcall.unsubscribe("news");
    std.debug.assert(try portcall.publish("news", "sale", .here) == 2);
    std.debug.assert(try portcall.publish("news", "sale", .everywhere) == 2);
    try portcall.offer("shop", "price=12");
    try portcall.withdraw("shop");
    var agents = try portcall.find("shop", "books", .everywhere, &a);
    while (agents.next()) |agent| {
        tell("{s} {s} {s} {s}", .{ agent.id, agent.station, agent.label, agent.attributes });
    }
    agents = try portcall.find("", "", .here, &a);
    std.debug.assert(agents.next() == null);
    try portcall.meet("friend").send("hi");
    portcall.meet("nobody").send("hi") catch failed("here");
    try portcall.sleep(1500);
    tell("{s}", .{(try portcall.clone(&a)).?});
    const number = try portcall.fork(2, &a);
    const ids = std.mem.sliceTo(&a, 0);
    std.mem.replaceScalar(u8, ids, '\n', ' ');
    tell("{d} {s}", .{ number, ids });
    std.debug.assert((try portcall.notice(&a)).len == 0);
    try portcall.report("answer", "42");
    portcall.go("closed") catch failed("closed");
    portcall.go("") catch failed("nowhere");
    portcall.goWait("shut", 250) catch failed("shut");
    try portcall.go("beta");
    tell("at {s}", .{try portcall.here(&a)});
    portcall.log(.warning, "careful");
    if (a[0] == 'x') try portcall.goAt("beta", "entry");
    portcall.exit(5);
}

pub fn main() void {
    all() catch unreachable;
}
