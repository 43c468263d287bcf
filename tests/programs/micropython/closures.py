def counter(start):
    value = start
    def up(by=1):
        nonlocal value
        value += by
        return value
    def down():
        return up(-1)
    return up, down

up, down = counter(10)
print(up(), up(5), down(), up(), down())
makers = [lambda x, k=k: x * k for k in range(5)]
print([f(7) for f in makers])
def compose(*functions):
    def composed(x):
        for f in functions:
            x = f(x)
        return x
    return composed
print(compose(lambda x: x + 1, lambda x: x * x, str, lambda s: "".join(reversed(s)))(11))
def memo(f):
    seen = {}
    def inner(n):
        if n not in seen:
            seen[n] = f(n)
        return seen[n]
    return inner
@memo
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(fib(18))
