"""Looks for a word in the texts of all stations at once, where they lie, and brings only the lines that have it.

    portcall launch grep.py --via roam -- WORD

A clone goes to each station that offers the service `texts`; stations that are down for a while are waited for.
"""

import sys

import portcall

word, parent = sys.argv[1], portcall.me()
places = portcall.lookup("texts")
try:
    clones = portcall.spread(places, wait=60)
except OSError as error:
    raise SystemExit("it may not be cloned so often: " + str(error)) from None
if clones is None:
    lines = portcall.call("texts").decode().splitlines()
    hits = [portcall.here() + ": " + line for line in lines if word in line]
    portcall.send(parent, "\n".join(hits) or " ")
else:
    answers = portcall.join(clones, 120)
    for hits in sorted(answer.decode().strip() for answer in answers.values()):
        if hits:
            print(hits)
    print(len(answers), "of", len(places), "stations have answered")
