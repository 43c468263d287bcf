class Shape:
    count = 0
    def __init__(self, name):
        self.name = name
        Shape.count += 1
    def area(self):
        return 0
    def __repr__(self):
        return "%s(%s, %.2f)" % (type(self).__name__, self.name, self.area())
    def __lt__(self, other):
        return self.area() < other.area()

class Box(Shape):
    def __init__(self, name, w, h):
        super().__init__(name)
        self.w, self.h = w, h
    def area(self):
        return self.w * self.h
    @property
    def square(self):
        return self.w == self.h
    @classmethod
    def unit(cls):
        return cls("unit", 1, 1)
    @staticmethod
    def sides():
        return 4

class Disc(Shape):
    def __init__(self, r):
        super().__init__("disc")
        self.r = r
    def area(self):
        return 3.14159 * self.r**2

shapes = [Box("a", 2, 3), Disc(1.5), Box.unit(), Shape("point"), Box("b", 4, 4)]
print(sorted(shapes), Shape.count, [s.square for s in shapes if isinstance(s, Box)], Box.sides())

class Vector:
    def __init__(self, *v):
        self.v = v
    def __add__(self, o):
        return Vector(*(a + b for a, b in zip(self.v, o.v)))
    def __mul__(self, k):
        return Vector(*(a * k for a in self.v))
    def __eq__(self, o):
        return self.v == o.v
    def __getitem__(self, i):
        return self.v[i]
    def __len__(self):
        return len(self.v)
    def __call__(self, i):
        return self.v[i] * 10

v = Vector(1, 2, 3) + Vector(4, 5, 6) * 2
print(v.v, v == Vector(9, 12, 15), len(v), v[1], v(2), [x for x in v])
