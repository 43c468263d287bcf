function shop() {
  portcall.subscribe("news");
  portcall.offer("shop", "price=12");
  const question = portcall.receive({ topic: "price?" });
  question.reply(question.body + ": 12");
  const news = portcall.receive({ topic: "news" });
  portcall.unsubscribe("news");
  const met = portcall.meet(question.sender).receive();
  portcall.withdraw("shop");
  const late = portcall.receive();
  portcall.go("beta");
  late.reply("from " + portcall.here());
  portcall.report("heard", `${question.body}|${news.body} about ${news.topic}|${met.body}`);
  portcall.report("told", portcall.receive({ sender: question.sender }).body);
}

function customer() {
  let found;
  while (!(found = portcall.find({ service: "shop" })[0])) portcall.sleep(0.01);
  const price = portcall.ask(found.id, "nuts", { topic: "price?" });
  portcall.publish("news", "sale");
  const channel = portcall.meet(found.id);
  channel.send("I am here");
  while (portcall.find({ service: "shop" }).length) portcall.sleep(0.01);
  const late = portcall.askLater(found.id, "late?");
  portcall.go("beta");
  const answer = late.answer();
  portcall.go("home");
  let gone = 0;
  try {
    channel.send("still?");
  } catch (error) {
    gone = error.errno;
  }
  portcall.send(found.id, [found.station, found.attributes, price, answer, gone].join("|"));
}

if (portcall.fork(1)[0] === 0) shop();
else customer();
