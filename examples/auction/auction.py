"""An auction: bidders meet an auctioneer at the market, and who bids most gets the painting.

    portcall run auction.py --via market -- 30 42 37

Each number is what one bidder would pay at most. The agent forks: the original is the auctioneer, each other one a
bidder, which finds the auction where it is held, and is asked there.
"""

import sys

import portcall


def auctioneer(count):
    portcall.offer("auction", "a painting")
    bidders = [portcall.receive(60, topic="").sender for _ in range(count)]
    portcall.withdraw("auction")  # the doors are closed
    price, buyer = 0, bidders[0]
    while True:
        willing = [each for each in bidders if portcall.ask(each, str(price + 5), topic="bid?") == b"yes"]
        if not willing:
            break
        price, buyer, bidders = price + 5, willing[0], willing
        if len(willing) == 1:
            break
    portcall.publish("auction over", buyer + " " + str(price))
    return buyer, price


def bidder(most):
    portcall.subscribe("auction over")
    while not portcall.find("auction"):
        portcall.sleep(0.05)
    agent, place, _, what = portcall.find("auction")[0]
    portcall.meet(agent).send("I am here")
    while True:
        message = portcall.receive()
        if message.topic == "bid?":
            portcall.reply(message, "yes" if int(message.text()) <= most else "no")
        else:
            buyer, price = message.text().split()
            if buyer == portcall.me():
                print("bought", what, "at", place, "for", price)
            return


limits = [int(each) for each in sys.argv[1:]]
number, others = portcall.fork(len(limits))
portcall.go("market")
if number:
    bidder(limits[number - 1])
else:
    buyer, price = auctioneer(len(limits))
    print("sold for", price, "to bidder", others.index(buyer) + 1)
