def f(a, b=2, *rest, key="k", **more):
    return a, b, rest, key, sorted(more.items())
print(f(1), f(1, 3, 4, 5), f(1, key="z"), f(b=9, a=8, other=7), f(*[1, 2, 3], **{"key": 0, "x": 1}))
for bad in (lambda: f(), lambda: f(1, a=2), lambda: (lambda x: x)(1, 2)):
    try:
        bad()
    except TypeError:
        print("refused", end=" ")
def default(x, seen=[]):
    seen.append(x)
    return len(seen)
print(default(1), default(2), default(3, []))
print((lambda: (yield))().send(None), list(map(str, [1, None])), max(3, 9, 2), min("port", "call", key=lambda w: w[-1]))
