# Functions that hold variables, in chains and tables: more than 10 MB in all.
def counter(start):
    count = start
    held = [start] * 8

    def step(by=1, *rest, **named):
        nonlocal count
        count += by + len(rest) + sum(named.values())
        held.append(count)
        return count, held[-2], len(held)

    return step


def compose(*functions):
    def all_of(x):
        for f in functions:
            x = f(x)
        return x

    return all_of


total = 0
table = {}
for turn in range(7000):
    steps = [counter(turn + k) for k in range(4)]
    for k, step in enumerate(steps):
        step(k)
        step(1, 2, 3, more=k)
    chain = compose(lambda x: x + turn, lambda x: (x, str(x)), lambda pair: pair[1] + "/" + str(pair[0]))
    said = chain(5)
    assert said == "%d/%d" % (turn + 5, turn + 5), (turn, said)
    ends = [step() for step in steps]
    assert ends[2] == (turn + 2 + 2 + 3 + 2 + 1, turn + 2 + 2 + 3 + 2, 11), (turn, ends)
    total += sum(end[0] for end in ends) + len(said)
    if turn % 350 == 0:
        table[turn] = (steps[1], chain)
print(total)
for turn in sorted(table):
    step, chain = table[turn]
    print(turn, step(10), chain(1))
