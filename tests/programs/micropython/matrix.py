def multiply(a, b):
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]
def power(m, n):
    if n == 1:
        return m
    half = power(m, n // 2)
    whole = multiply(half, half)
    return multiply(whole, m) if n % 2 else whole
print(power([[1, 1], [1, 0]], 60))
def determinant(m):
    if len(m) == 1:
        return m[0][0]
    return sum((-1) ** i * m[0][i] * determinant([r[:i] + r[i + 1 :] for r in m[1:]]) for i in range(len(m)))
print(determinant([[2, 0, 1, 3], [1, 1, 0, 2], [0, 3, 1, 1], [4, 1, 2, 0]]))
a = [[float(i + j * 2 % 5) for j in range(5)] for i in range(5)]
print(["%.1f" % v for v in multiply(a, a)[3]])
