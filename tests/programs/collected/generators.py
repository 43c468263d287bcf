# Generators that hold data while others run: more than 10 MB in all.
def numbers(n, label):
    held = [label] * 5
    for i in range(n):
        got = yield (i, held[i % 5], "%s-%d" % (label, i))
        if got:
            held[i % 5] = got


def pairs(one, other):
    for a in one:
        b = next(other, None)
        yield a, b


def flat(tree):
    if isinstance(tree, list):
        for each in tree:
            yield from flat(each)
    else:
        yield tree


total = 0
kept = []
for turn in range(1700):
    g = numbers(12, "a%d" % turn)
    h = numbers(9, "b%d" % turn)
    for k, (a, b) in enumerate(pairs(g, h)):
        assert a[2] == "a%d-%d" % (turn, k), (turn, a)
        assert (b is None) == (k >= 9), (turn, k, b)
        total += a[0] + len(a[2]) + (len(b[1]) if b else 0)
    tree = [[str(turn + k), [str(k), [turn]]] for k in range(6)]
    leaves = [str(leaf) for leaf in flat(tree)]
    assert leaves[0] == str(turn) and len(leaves) == 18, (turn, leaves)
    open_one = numbers(5, "open%d" % turn)
    next(open_one)
    open_one.send("given%d" % turn)
    if turn % 170 == 0:
        kept.append(open_one)
    total += sum(len(leaf) for leaf in leaves)
print(total)
for g in kept:
    print(list(g))
