# Integers of some hundred digits, held in tables while more are made: more than 10 MB in all.
a, b = 0, 1
table = {}
total = 0
for i in range(9000):
    a, b = b, a + b
    if i % 3000 == 2999:
        a, b = a % 10**300, b % 10**300
    row = [a + k for k in range(4)] + [a * (k + 3) for k in range(3)] + [-a >> k for k in range(3)]
    table[i % 50] = row
    if i % 9 == 0:
        for old in table.values():
            assert old[3] - old[0] == 3 and old[5] - old[4] == old[0], (i, old)
        total += sum(row) % (10**40 + i)
print(a % 10**40, total)
power = 1
for i in range(1, 260):
    power *= i
    total += power % (10**30 + i) - (power >> i) % 97
    half = power // (i + 1) + (-power) % 1013
    total ^= half & ((1 << 200) - 1)
print(power % 10**40, total)
print([pow(3, 500 + k, 10**60 + k) for k in range(5)])
x = 7
for i in range(400):
    x = (x * x + i) % (2**521 - 1)
print(x, len(str(x)), int(str(x)) == x)
