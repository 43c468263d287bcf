def leaf(n):
    got = []
    for i in range(n):
        got.append((yield i))
    return got

def branch(n):
    first = yield from leaf(n)
    second = yield from leaf(n - 1)
    return first + second

def tree(items):
    for item in items:
        if isinstance(item, list):
            yield from tree(item)
        else:
            yield item

b = branch(3)
sent = [next(b)]
try:
    for letter in "abcdefgh":
        sent.append(b.send(letter))
except StopIteration as stop:
    print(sent, stop.value)
print(list(tree([1, [2, [3, [], [4, 5]], 6], [[[7]]]])))
def chained():
    try:
        yield from leaf(2)
    except ValueError:
        yield "caught"
c = chained()
next(c)
print(c.throw(ValueError()))
