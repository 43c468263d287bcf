def count(n):
    while n:
        got = yield n
        if got:
            n = got
        else:
            n -= 1

def primes():
    found, n = [], 2
    while True:
        if all(n % p for p in found):
            found.append(n)
            yield n
        n += 1

print(list(count(5)))
g = count(3)
print(next(g), g.send(6), next(g), next(g))
g.close()
try:
    next(g)
except StopIteration:
    print("closed")
for p in primes():
    if p > 60:
        break
    print(p, end=" ")
print(sum(x * x for x in range(20) if x % 3))
