import portcall


def shop():
    portcall.subscribe("news")
    portcall.offer("shop", "price=12")
    question = portcall.receive(topic="price?")
    portcall.reply(question, question.text() + ": 12")
    news = portcall.receive(topic="news")
    portcall.unsubscribe("news")
    met = portcall.meet(question.sender).receive()
    portcall.withdraw("shop")
    late = portcall.receive()
    portcall.go("beta")
    portcall.reply(late, "from " + portcall.here())
    portcall.report("heard", question.text() + "|" + news.text() + " about " + news.topic + "|" + met.text())
    portcall.report("told", portcall.receive(sender=question.sender).body)


def customer():
    found = []
    while not found:
        portcall.sleep(0.01)
        found = portcall.find("shop")
    agent, station, _, attributes = found[0]
    price = portcall.ask(agent, "nuts", topic="price?")
    portcall.publish("news", "sale")
    channel = portcall.meet(agent)
    channel.send("I am here")
    while portcall.find("shop"):
        portcall.sleep(0.01)
    late = portcall.ask_later(agent, "late?")
    portcall.go("beta")
    answer = late.answer()
    portcall.go("home")
    gone = 0
    try:
        channel.send("still?")
    except OSError as error:
        gone = error.errno
    portcall.send(agent, "|".join([station, attributes, price.decode(), answer.decode(), str(gone)]))


if portcall.fork(1)[0] == 0:
    shop()
else:
    customer()
