"""Ping-pong between two agents that both move: questions and answers find them.

portcall run ping_pong.py --via "(beta|gamma)*6"
"""

import portcall

ROUNDS = 4


def other(station):
    return "gamma" if station == "beta" else "beta"


number, others = portcall.fork(1)
portcall.go("beta")
if number:
    while True:
        asked = portcall.receive()
        if asked.text() == "enough":
            break
        portcall.go(other(portcall.here()))
        portcall.reply(asked, "pong from " + portcall.here())
else:
    for _ in range(ROUNDS):
        question = portcall.ask_later(others[0], "ping")
        portcall.go(other(portcall.here()))
        print("ping to", portcall.here() + ":", question.answer().decode())
    portcall.send(others[0], "enough")
