import portcall


def tell(*words):
    portcall.log(" ".join(str(word) for word in words))


def attempt(what, function, *arguments):
    try:
        tell(what, function(*arguments))
    except OSError as error:
        tell(what, "error", error.errno)


tell(portcall.here(), portcall.me(), "[" + portcall.next_stop() + "]")
tell(portcall.call("clock", "please").decode())
tell(len(portcall.call("large", b"")))
attempt("oracle", portcall.call, "oracle")
tell(" ".join(portcall.lookup("clock")), "[" + " ".join(portcall.lookup("oracle")) + "]")
portcall.send("friend", "hi")
attempt("send", portcall.send, "nobody", "hi")
tell(portcall.recv().decode(), "from", portcall.sender())
tell(len(portcall.recv()), "from", portcall.sender())
attempt("recv", portcall.recv, 0.25)
request = portcall.accept()
tell(request.method)
portcall.reply(request, "hi")
attempt("reply", portcall.reply, request, "hi")
attempt("accept", portcall.accept, 0.25)
portcall.sleep(1.5)
tell(portcall.clone())
number, ids = portcall.fork(2)
tell(number, " ".join(ids))
portcall.report("answer", "42")
attempt("closed", portcall.go, "closed")
attempt("nowhere", portcall.go, "")
attempt("shut", portcall.go, "shut", 0.25)
portcall.go("beta")
tell("at", portcall.here())
portcall.log("careful", "warning")
portcall.exit(5)
