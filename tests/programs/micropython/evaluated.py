space = {"n": 4}
exec("def twice(x):\n    return x * n * 2\ntotal = sum(twice(i) for i in range(5))", space)
print(space["total"], eval("twice(10) + n", space), eval("[i for i in (3, 4)]"))
code = compile("n = n + 1", "<text>", "exec")
for _ in range(3):
    exec(code, space)
print(space["n"])
for text in ("1 +", "1 / 0", "missing", "(1).x", "[][2]", "{}['k']", "int('z')"):
    try:
        eval(text)
    except Exception as e:
        print(type(e).__name__, end=" ")
print()
Maker = type("Maker", (object,), {"greet": lambda self, who: "hello " + who, "size": 3})
m = Maker()
print(m.greet("sea"), Maker.size, getattr(m, "size"), hasattr(m, "none"), getattr(m, "none", "-"))
setattr(m, "added", [1])
m.added.append(2)
print(m.added, isinstance(m, Maker), issubclass(Maker, object), callable(m.greet), type(m) is Maker)
