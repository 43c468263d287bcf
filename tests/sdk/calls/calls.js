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
