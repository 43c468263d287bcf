const tell = (...words) => portcall.log(words.join(" "));

function attempt(what, call) {
  try {
    tell(what, call());
  } catch (error) {
    tell(what, "error", error.errno);
  }
}

tell(portcall.here(), portcall.me(), `[${portcall.nextStop()}]`);
tell(portcall.call("clock", "please"));
tell(portcall.call("large").length);
attempt("oracle", () => portcall.call("oracle"));
tell(portcall.lookup("clock").join(" "), `[${portcall.lookup("oracle").join(" ")}]`);
portcall.send("friend", "hi");
attempt("send", () => portcall.send("nobody", "hi"));
tell(portcall.recv(), "from", portcall.sender());
tell(portcall.recv().length, "from", portcall.sender());
attempt("recv", () => portcall.recv(0.25));
tell(portcall.accept().slice(0, 3));
portcall.reply("alpha.7", "hi");
attempt("reply", () => portcall.reply("alpha.7", "hi"));
attempt("accept", () => portcall.accept(0.25));
const message = portcall.receive({ sender: "friend", topic: "news" });
tell(message.body, "from", message.sender, "about", message.topic);
message.reply("ok");
attempt("receive", () => portcall.receive({ timeout: 0.25 }));
tell(portcall.ask("friend", "how much", { topic: "price?" }).length);
const question = portcall.askLater("friend", "more", { timeout: 0.25 });
attempt("answer", () => question.answer(0.25));
attempt("ask", () => portcall.ask("nobody", ""));
portcall.subscribe("news");
portcall.unsubscribe("news");
portcall.publish("news", "sale");
portcall.publish("news", "sale", { everywhere: true });
portcall.offer("shop", "price=12");
portcall.withdraw("shop");
for (const { id, station, label, attributes } of portcall.find({ service: "shop", label: "books", everywhere: true }))
  tell(id, station, label, attributes);
if (portcall.find().length) throw new Error("somebody is here");
portcall.meet("friend").send("hi");
attempt("here", () => portcall.meet("nobody").send("hi"));
portcall.sleep(1.5);
tell(portcall.clone());
const [number, ids] = portcall.fork(2);
tell(number, ids.join(" "));
portcall.report("answer", "42");
attempt("closed", () => portcall.go("closed"));
attempt("nowhere", () => portcall.go(""));
attempt("shut", () => portcall.go("shut", 0.25));
portcall.go("beta");
tell("at", portcall.here());
portcall.log("careful", "warning");
portcall.exit(5);
