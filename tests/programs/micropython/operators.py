class Vector:
    def __init__(self, *xs):
        self.xs = xs
    def __add__(self, o):
        return Vector(*[a + b for a, b in zip(self.xs, o.xs)])
    def __mul__(self, k):
        return Vector(*[a * k for a in self.xs]) if isinstance(k, int) else sum(a * b for a, b in zip(self.xs, k.xs))
    def __neg__(self):
        return self * -1
    def __eq__(self, o):
        return self.xs == o.xs
    def __lt__(self, o):
        return self * self < o * o
    def __len__(self):
        return len(self.xs)
    def __getitem__(self, i):
        return self.xs[i]
    def __contains__(self, x):
        return x in self.xs
    def __call__(self, f):
        return Vector(*[f(a) for a in self.xs])
    def __repr__(self):
        return "<%s>" % " ".join(map(str, self.xs))
    def __hash__(self):
        return hash(self.xs)
    def __bool__(self):
        return any(self.xs)
a, b = Vector(1, 2, 3), Vector(4, 5, 6)
print(a + b, a * b, a * 3, -a, a == Vector(1, 2, 3), a != b, len(a), a[1], 5 in b, a(lambda x: x * x))
print(bool(Vector(0, 0)), a < b, {a: "key"}[Vector(1, 2, 3)], [x for x in a])
a += b
print(a, b < a, 7 // 2, -7 // 2, -7 % 3, 2 ** -1, 1 << 70, 5 & 3 | 8 ^ 1, not 0, ~5)
x = 5
print(1 < x <= 5 != 6, x if x > 9 else -x, 0 or "or", 3 and "and", None is None, [] is not [])
for n in range(2, 20):
    for d in range(2, n):
        if n % d == 0:
            break
    else:
        print(n, end=" ")
print()
while x:
    x -= 1
    if x == 2:
        continue
else:
    print("done", x)
