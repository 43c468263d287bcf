class Vector:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)
    def scaled(self, k):
        return Vector(self.x * k & 0xFFFF, self.y * k & 0xFFFF)

class Walker:
    def __init__(self):
        self.at = Vector(0, 1)
    def step(self, turn):
        turned = (lambda v: Vector(v.y, v.x))(self.at)
        self.at = self.at.scaled(3) + turned.scaled(turn & 14)

w = Walker()
for turn in range(25000):
    w.step(turn & 15)
print(w.at.x, w.at.y)
