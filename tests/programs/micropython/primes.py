def sieve(n):
    flags = bytearray(b"\x01" * (n + 1))
    flags[0] = flags[1] = 0
    i = 2
    while i * i <= n:
        if flags[i]:
            for j in range(i * i, n + 1, i):
                flags[j] = 0
        i += 1
    return [i for i in range(n + 1) if flags[i]]
p = sieve(600)
print(len(p), p[-5:])
def factor(n):
    out, d = [], 2
    while d * d <= n:
        while n % d == 0:
            out.append(d)
            n //= d
        d += 1
    return out + [n] if n > 1 else out
print([factor(n) for n in (360, 997, 123456, 2**20 - 1)])
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a
print(gcd(2**40 - 1, 2**30 - 1), sum(1 for a in range(1, 30) for b in range(1, a) if gcd(a, b) == 1))
