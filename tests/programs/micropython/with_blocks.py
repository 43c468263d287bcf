class Gate:
    def __init__(self, name, swallow=()):
        self.name, self.swallow = name, swallow
    def __enter__(self):
        print("open", self.name)
        return self
    def __exit__(self, kind, error, trace):
        print("close", self.name, kind.__name__ if kind else None)
        return kind is not None and kind in self.swallow

with Gate("a") as a, Gate("b") as b:
    print(a.name + b.name)
with Gate("outer", (ValueError,)):
    with Gate("inner"):
        raise ValueError("x")
    print("not reached")
def early():
    with Gate("early"):
        for i in range(5):
            with Gate(i):
                if i == 2:
                    return i
print(early())
try:
    with Gate("c", (KeyError,)):
        with Gate("d", (KeyError,)):
            {}["x"]
        raise TypeError
except TypeError:
    print("type error")
