import portcall

seen = []
for event in ("departing", "arrived", "sleeping", "woken", "cloned", "message", "budget_low", "retracted"):
    portcall.on(event, lambda event=event: seen.append(event + "@" + portcall.here()))
portcall.go("beta")
portcall.sleep(0.01)
portcall.send(portcall.me(), "hello")
portcall.recv()
if portcall.fork(1)[0] == 0:
    portcall.log("ready")
    while portcall.here() != "home":
        pass
    portcall.report("seen", " ".join(seen))
