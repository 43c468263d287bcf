total = 0
for i in range(40):
    for j in range(i):
        if (i * j) % 7 == 3:
            continue
        if j > 25:
            break
        total += i ^ j
    else:
        total += 1000
print(total)
n, steps = 27, 0
while n != 1:
    n = n * 3 + 1 if n % 2 else n // 2
    steps += 1
else:
    print("reached 1 after", steps)
print([i for i in range(30, 0, -7)], sum(range(1, 101)))
