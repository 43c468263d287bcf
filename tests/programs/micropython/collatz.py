seen = {1: 1}
def length(n):
    trail = []
    while n not in seen:
        trail.append(n)
        n = n * 3 + 1 if n & 1 else n >> 1
    base = seen[n]
    for steps, m in enumerate(reversed(trail), 1):
        seen[m] = base + steps
    return seen[trail[0]] if trail else base
best = max(range(1, 60), key=length)
print(best, length(best), len(seen), max(seen))
