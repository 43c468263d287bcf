a, b = 0, 1
for _ in range(20000):
    a, b = b, a + b
f = 1
for i in range(1, 1600):
    f *= i
total = 0
while f:
    f //= 1000003
    total += 1
print(a % 1000000007, total, pow(3, 2000, 10**40 + 7))
