import {
  ask, askLater, find, fork, go, here, meet, offer, publish, receive, report, send, sleep, subscribe, unsubscribe,
  withdraw,
} from "portcall";

function bytes(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

function shop(): void {
  assert(subscribe("news") == 0);
  assert(offer("shop", "price=12") == 0);
  const question = receive("", "price?")!;
  assert(question.reply(bytes(question.text() + ": 12")) == 0);
  const news = receive("", "news")!;
  assert(unsubscribe("news") == 0);
  const met = meet(question.sender).receive()!;
  assert(withdraw("shop") == 0);
  const late = receive()!;
  assert(go("beta") == 0);
  assert(late.reply(bytes("from " + here())) == 0);
  assert(report("heard", `${question.text()}|${news.text()} about ${news.topic}|${met.text()}`) == 0);
  assert(report("told", receive(question.sender)!.text()) == 0);
}

function customer(): void {
  let found = find("shop");
  while (found.length == 0) {
    sleep(10);
    found = find("shop");
  }
  const shop = found[0];
  const price = String.UTF8.decode(ask(shop.id, bytes("nuts"), "price?")!);
  assert(publish("news", bytes("sale")) == 1);
  const channel = meet(shop.id);
  assert(channel.send(bytes("I am here")) == 0);
  while (find("shop").length > 0) sleep(10);
  const late = askLater(shop.id, bytes("late?"))!;
  assert(go("beta") == 0);
  const answer = String.UTF8.decode(late.answer()!);
  assert(go("home") == 0);
  const gone = -channel.send(bytes("still?"));
  assert(send(shop.id, bytes(`${shop.station}|${shop.attributes}|${price}|${answer}|${gone}`)) == 0);
}

if (fork(1) == 0) shop();
else customer();
