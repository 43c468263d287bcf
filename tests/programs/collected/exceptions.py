# Raised, caught, chained and passed through, with what they hold: more than 10 MB in all.
class Refused(Exception):
    def __init__(self, name, details):
        super().__init__(name)
        self.name, self.details = name, details


def deep(n, name):
    held = [name + str(n)] * 3
    try:
        if n == 0:
            raise Refused(name, {"at": n, "why": name * 2})
        return deep(n - 1, name) + held[0]
    finally:
        held.append(name)
        assert held[0] == name + str(n), (held, n)


def attempt(turn):
    log = []
    name = "n%d" % turn
    for depth in range(6):
        try:
            deep(depth, name)
        except Refused as error:
            log.append((error.name, sorted(error.details.items()), str(error)))
        else:
            log.append("nothing")
        finally:
            log.append("." * (depth + 20))
    try:
        try:
            {}[name]
        except KeyError as error:
            raise ValueError("%s then %s" % (error.args[0], name))
    except ValueError as error:
        log.append(str(error))
    return log


total = 0
for turn in range(2100):
    log = attempt(turn)
    assert log[0] == ("n%d" % turn, [("at", 0), ("why", "n%dn%d" % (turn, turn))], "n%d" % turn), (turn, log)
    assert log[-1] == "n%d then n%d" % (turn, turn), (turn, log)
    total += len(log) + sum(len(line) for line in log[1::2])
    if turn % 300 == 0:
        print(log)
print(total)
