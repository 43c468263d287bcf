const std = @import("std");
const portcall = @import("portcall");

var a: [4096]u8 = undefined;
var b: [4096]u8 = undefined;
var c: [4096]u8 = undefined;

fn shop() !void {
    try portcall.subscribe("news");
    try portcall.offer("shop", "price=12");
    const question = try portcall.receive("", "price?", &a, -1);
    const news = try portcall.receive("", "news", &b, -1);
    try portcall.unsubscribe("news");
    var line: [256]u8 = undefined;
    try question.answer(try std.fmt.bufPrint(&line, "{s}: 12", .{question.body}));
    const here = try portcall.meet(question.sender).receive(&c, -1);
    var heard: [256]u8 = undefined;
    const all = .{ question.body, news.body, news.topic, here.body };
    const text = try std.fmt.bufPrint(&heard, "{s}|{s} about {s}|{s}", all);
    try portcall.withdraw("shop");
    const late = try portcall.receive("", "", &b, -1);
    try portcall.go("beta");
    try late.answer(try std.fmt.bufPrint(&line, "from {s}", .{try portcall.here(&c)}));
    try portcall.report("heard", text);
    try portcall.report("told", (try portcall.receive(question.sender, "", &b, -1)).body);
}

fn customer() !void {
    var agents = try portcall.find("shop", "", .here, &a);
    while (agents.lines.len == 0) : (agents = try portcall.find("shop", "", .here, &a)) {
        try portcall.sleep(10);
    }
    const found = agents.next().?;
    const question = try portcall.ask(found.id, "price?", "nuts", 30000);
    if (try portcall.publish("news", "sale", .here) != 1) unreachable;
    const price = try question.answer(&b, -1);
    const channel = portcall.meet(found.id);
    try channel.send("I am here");
    while ((try portcall.find("shop", "", .here, &c)).lines.len > 0) try portcall.sleep(10);
    const late = try portcall.ask(found.id, "", "late?", 30000);
    try portcall.go("beta");
    const answer = try late.answer(&c, -1);
    try portcall.go("home");
    if (channel.send("still?")) |_| unreachable else |_| {}
    var line: [512]u8 = undefined;
    const all = .{ found.station, found.attributes, price, answer, portcall.lastErrno };
    try portcall.send(found.id, try std.fmt.bufPrint(&line, "{s}|{s}|{s}|{s}|{d}", all));
}

pub fn main() !void {
    if (try portcall.fork(1, &a) == 0) try shop() else try customer();
}
