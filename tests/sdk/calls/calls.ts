import {
  Level, accept, ask, askLater, call, clone, exit, find, fork, forked, go, goAt, goWait, here, lastError, log, lookup, me,
  meet, nextStop, notice, offer, publish, receive, recv, reply, report, reportBytes, send, sender, sleep, subscribe, unsubscribe,
  withdraw,
} from "portcall";

function bytes(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

function text(bytes: ArrayBuffer | null): string {
  return bytes === null ? "null" : String.UTF8.decode(bytes);
}

function length(bytes: ArrayBuffer | null): i32 {
  return bytes === null ? -1 : bytes.byteLength;
}

log(`${here()} ${me()} [${nextStop()}]`);
log(text(call("clock", bytes("please"))));
log(length(call("large", new ArrayBuffer(0))).toString());
if (call("oracle", new ArrayBuffer(0)) === null) log(`oracle error ${-lastError}`);
log(`${lookup("clock").join(" ")} [${lookup("oracle").join(" ")}]`);
assert(send("friend", bytes("hi")) == 0);
log(`send error ${-send("nobody", bytes("hi"))}`);
const message = recv();
log(`${text(message)} from ${sender()}`);
const size = length(recv());
log(`${size} from ${sender()}`);
if (recv(250) === null) log(`recv error ${-lastError}`);
log(text(accept()).slice(0, 3));
assert(reply("alpha.7", bytes("hi")) == 0);
log(`reply error ${-reply("alpha.7", bytes("hi"))}`);
if (accept(250) === null) log(`accept error ${-lastError}`);
const extra = receive("friend", "news")!;
log(`${extra.text()} from ${extra.sender} about ${extra.topic}`);
assert(extra.reply(bytes("ok")) == 0);
if (receive("", "", 250) === null) log(`receive error ${-lastError}`);
log(length(ask("friend", bytes("how much"), "price?")).toString());
const question = askLater("friend", bytes("more"), "", 250)!;
if (question.answer(250) === null) log(`answer error ${-lastError}`);
if (ask("nobody", bytes("")) === null) log(`ask error ${-lastError}`);
assert(subscribe("news") == 0 && unsubscribe("news") == 0);
assert(publish("news", bytes("sale")) == 2 && publish("news", bytes("sale"), true) == 2);
assert(offer("shop", "price=12") == 0 && withdraw("shop") == 0);
const found = find("shop", "books", true);
for (let i = 0; i < found.length; i++) {
  log(`${found[i].id} ${found[i].station} ${found[i].label} ${found[i].attributes}`);
}
assert(find().length == 0);
assert(meet("friend").send(bytes("hi")) == 0);
log(`here error ${-meet("nobody").send(bytes("hi"))}`);
assert(sleep(1500) == 0);
const child = clone();
if (child !== null) log(child!);
log(`${fork(2)} ${forked.join(" ")}`);
assert(notice() == "");
assert(reportBytes("answer", bytes("42")) == 0);
log(`closed error ${-go("closed")}`);
log(`nowhere error ${-go("")}`);
log(`shut error ${-goWait("shut", 250)}`);
assert(go("beta") == 0);
log(`at ${here()}`);
log("careful", Level.WARNING);
if (here() == "nowhere") { goAt("beta", "entry"); report("never", "this"); }
exit(5);
