const seen = [];
for (const event of ["departing", "arrived", "sleeping", "woken", "cloned", "message", "budget_low", "retracted"])
  portcall.on(event, () => seen.push(`${event}@${portcall.here()}`));
portcall.go("beta");
portcall.sleep(0.01);
portcall.send(portcall.me(), "hello");
portcall.recv();
if (portcall.fork(1)[0] === 0) {
  portcall.log("ready");
  while (portcall.here() !== "home");
  portcall.report("seen", seen.join(" "));
}
