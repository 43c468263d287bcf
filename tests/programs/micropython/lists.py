a = list(range(12))
a[2:5] = ["x", "y"]
a.insert(1, -1)
a.append(a.pop(0))
a.extend([7, 7])
print(a, a.index(7), a.count(7), a[-3:], a[::3])
a.remove("x")
a.reverse()
print(a, len(a), [1, 2] + [3] * 2, [1, [2, [3]]] == [1, [2, [3]]], [1, 2] < [1, 3])
queue, seen = [(0, 0)], set()
walls = {(1, y) for y in range(4)} | {(3, y) for y in range(1, 5)}
steps = {(0, 0): 0}
while queue:
    x, y = queue.pop(0)
    for nx, ny in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
        if 0 <= nx < 5 and 0 <= ny < 5 and (nx, ny) not in walls and (nx, ny) not in steps:
            steps[nx, ny] = steps[x, y] + 1
            queue.append((nx, ny))
print(len(steps), steps[4, 4], max(steps.values()))
first, *middle, last = range(6)
print(first, middle, last, (lambda *p, **k: (p, sorted(k)))(1, *[2, 3], z=1, **{"y": 2}))
