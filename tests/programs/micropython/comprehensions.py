print([(x, y) for x in range(5) for y in range(x) if (x + y) % 2])
print({k: [v for v in range(k)] for k in range(4)})
print(sorted({len(w) for w in "a station by the sea".split()}))
matrix = [[r * 4 + c for c in range(4)] for r in range(3)]
print([[row[i] for row in matrix] for i in range(4)], sum(sum(row) for row in matrix))
print(list(zip(*matrix))[1], list(map(lambda a, b: a * b, range(5), range(5, 10))), list(filter(None, [0, 1, "", "x"])))
print([y for x in range(4) if x for y in [x * x]], any(x > 8 for x in range(9)), all(x < 9 for x in range(9)))
g = (x for row in matrix for x in row if x % 2)
print(next(g), next(g), list(g))
