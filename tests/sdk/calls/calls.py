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
message = portcall.receive(sender="friend", topic="news")
tell(message.text(), "from", message.sender, "about", message.topic)
portcall.reply(message, "ok")
attempt("receive", portcall.receive, 0.25)
tell(len(portcall.ask("friend", "how much", topic="price?")))
attempt("answer", portcall.ask_later("friend", "more", 0.25).answer, 0.25)
attempt("ask", portcall.ask, "nobody", "")
portcall.subscribe("news")
portcall.unsubscribe("news")
portcall.publish("news", "sale")
portcall.publish("news", "sale", everywhere=True)
portcall.offer("shop", "price=12")
portcall.withdraw("shop")
for found in portcall.find("shop", "books", True):
    tell(*found)
assert not portcall.find()
portcall.meet("friend").send("hi")
attempt("here", portcall.meet("nobody").send, "hi")
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
