class A:
    def who(self):
        return ["A"]
    def hook(self):
        return "a"
class B(A):
    def who(self):
        return ["B"] + super().who()
class C(A):
    def who(self):
        return ["C"] + super().who()
    def hook(self):
        return "c" + super().hook()
class D(B):
    def who(self):
        return ["D"] + super().who()
    def __getattr__(self, name):
        if name.startswith("auto_"):
            return lambda *a: (name[5:], a)
        raise AttributeError(name)
d = D()
print(d.who(), d.hook(), d.auto_land(1, 2), isinstance(d, A), issubclass(C, A), issubclass(C, B))
try:
    d.manual
except AttributeError as error:
    print("no", error)
class Registry:
    kinds = {}
    def register(self, name):
        def decorate(cls):
            self.kinds[name] = cls
            return cls
        return decorate
registry = Registry()
@registry.register("x")
class X:
    def __init__(self, *a, **k):
        self.a, self.k = a, k
x = registry.kinds["x"](1, 2, key="v")
print(x.a, x.k, sorted(registry.kinds), type(x) is X, hasattr(x, "a"), getattr(x, "zz", "default"))
