a = {i * i % 37 for i in range(40)}
b = set(range(0, 37, 3))
print(sorted(a & b), sorted(a - b), sorted(a ^ b)[:5], len(a | b), a >= {0, 1}, {1} < a)
s, seed = set(), 3
for i in range(300):
    seed = seed * 75 % 65537
    if seed % 4:
        s.add(seed % 40)
    else:
        s.discard((seed >> 4) % 40)
print(sorted(s))
print(frozenset([1, 2]) in {frozenset([2, 1]): "yes"}, 5 in s, len({(i % 3, i % 4) for i in range(50)}))
