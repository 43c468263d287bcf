"""Asks a question at each of three stations. The loop, the generator, `diary`: all of it travels."""

import portcall

QUESTIONS = [
    ("alpha", "clock.read", "what time is it?"),
    ("beta", "thermometer.read", "how warm is it?"),
    ("gamma", "oracle.ask", "where is home?"),
]


def tour(questions):
    for station, service, question in questions:
        portcall.go(station)  # the next line runs there
        yield portcall.here(), service, question


diary = []
for place, service, question in tour(QUESTIONS):
    answer = portcall.call(service, question).decode()
    print(question, "-", answer)
    diary.append(place + ": " + answer)
    portcall.report(service, answer)

portcall.go("home")
print("home again, with", len(diary), "answers in the same list:")
for line in diary:
    print("   ", line)
