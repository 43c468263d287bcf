def quick(a):
    if len(a) < 2:
        return a
    p = a[len(a) // 2]
    return quick([x for x in a if x < p]) + [x for x in a if x == p] + quick([x for x in a if x > p])

numbers = [(i * 7919 + 13) % 4001 for i in range(1500)]
total = 0
for turn in range(8):
    a = quick(numbers)
    b = sorted(numbers, key=lambda n: ((n * 31) % 1009, n))
    total += a[turn] + b[turn * 100]
print(total, a == sorted(numbers))
