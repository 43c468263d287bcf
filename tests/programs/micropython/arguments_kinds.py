def shown(a, b=2, *rest, key, other="o", **more):
    return (a, b, rest, key, other, sorted(more.items()))
print(shown(1, key="k"))
print(shown(1, 3, 4, 5, key="k", other="x", z=1, y=2))
print(shown(*(7, 8, 9), **{"key": 0, "w": "ww"}))
def counted(start=[0]):
    start[0] += 1
    return start[0]
print(counted(), counted(), counted([9]), counted())
for bad in (lambda: shown(), lambda: shown(1), lambda: shown(1, nokey=2)):
    try:
        bad()
    except TypeError:
        print("refused")
def outer():
    calls = 0
    def inner(n):
        nonlocal calls
        calls += 1
        def innermost():
            return n * calls
        return innermost if n % 2 else innermost()
    return [inner(i) if i % 2 == 0 else inner(i)() for i in range(6)], calls
print(outer())
compose = lambda *fs: lambda x: [x := f(x) for f in fs][-1]
print(compose(lambda x: x + 1, lambda x: x * 10, str)(4))
