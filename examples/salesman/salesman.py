"""The shortest round trip through eight cities, found by an agent that forks: each clone tries its share of the ways.

The original sends a clone to each station, which does not matter for the answer: the work is divided, and each clone
computes where it is. The original waits for what they have found.
"""

import portcall

CITIES = {"Oslo": (59.9, 10.7), "Bern": (46.9, 7.4), "Rome": (41.9, 12.5), "Riga": (56.9, 24.1),
          "Cork": (51.9, -8.5), "Lyon": (45.8, 4.8), "Graz": (47.1, 15.4), "Kiel": (54.3, 10.1)}  # fmt: skip
START, *OTHERS = sorted(CITIES)


def apart(one, other):
    """How far two cities are apart, in degrees: good enough."""
    (a, b), (c, d) = CITIES[one], CITIES[other]
    return ((a - c) ** 2 + ((b - d) * 0.6) ** 2) ** 0.5


def shortest(way, left, length, best):
    """The shortest round trip that begins with `way`, which is `length` long, if it is shorter than `best`."""
    if length >= best[0]:
        return best
    if not left:
        length += apart(way[-1], START)
        return (length, way) if length < best[0] else best
    for city in left:
        rest = [each for each in left if each != city]
        best = shortest(way + [city], rest, length + apart(way[-1], city), best)  # noqa: RUF005
    return best


def share(number, of):
    """The ways of one of so many: those whose first stops are every so-manieth."""
    best = (1e9, [])
    for city in OTHERS[number::of]:
        rest = [each for each in OTHERS if each != city]
        best = shortest([START, city], rest, apart(START, city), best)
    return best


parent = portcall.me()
stations = portcall.lookup("room")
clones = portcall.spread(stations)
if clones is None:
    number = stations.index(portcall.here())
    length, way = share(number, len(stations))
    print("the best here:", round(length, 2))
    portcall.send(parent, str(round(length, 2)) + " " + "-".join(way))
else:
    found = [answer.decode().split(" ", 1) for answer in portcall.join(clones, 120).values()]
    length, way = min(found, key=lambda each: float(each[0]))
    print(len(found), "clones; the shortest:", length, way)
    portcall.report("way", way)
