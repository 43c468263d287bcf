# Objects with slots for others, inheritance, properties and operators: more than 10 MB in all.
class Vector:
    def __init__(self, *parts):
        self.parts = list(parts)

    def __add__(self, other):
        return Vector(*[a + b for a, b in zip(self.parts, other.parts)])

    def __mul__(self, by):
        return Vector(*[a * by for a in self.parts])

    def __eq__(self, other):
        return self.parts == other.parts

    def __repr__(self):
        return "<" + ", ".join(repr(p) for p in self.parts) + ">"

    @property
    def length(self):
        return sum(p * p for p in self.parts)


class Named(Vector):
    made = 0

    def __init__(self, name, *parts):
        super().__init__(*parts)
        self.name = name
        Named.made += 1

    def __repr__(self):
        return self.name + super().__repr__()


class Node:
    def __init__(self, value, left=None, right=None):
        self.value, self.left, self.right = value, left, right

    def put(self, value):
        side = "left" if value.length < self.value.length else "right"
        below = getattr(self, side)
        if below is None:
            setattr(self, side, Node(value))
        else:
            below.put(value)

    def walk(self):
        out = self.left.walk() if self.left else []
        out.append(self.value)
        return out + (self.right.walk() if self.right else [])


total = 0
for turn in range(600):
    root = Node(Named("root", turn, 1, 2))
    for k in range(16):
        v = Vector(k * 7 % 13, turn % 11, k) * 2 + Vector(1, 1, 1)
        root.put(Named("n%d" % k, *v.parts))
    order = [v.length for v in root.walk()]
    assert order == sorted(order), (turn, order)
    last = root.walk()[-1]
    total += sum(order) + len(repr(last))
    if turn % 60 == 0:
        print(turn, root.walk()[0], last, order[8])
print(total, Named.made)
