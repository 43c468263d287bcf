state = {"visits": []}
limit = 3
def visit(name):
    global limit
    state["visits"].append(name)
    limit -= 1
    if limit < 0:
        raise RuntimeError("full at " + name)
    return limit
exec("made = [x * 2 for x in range(4)]\ndef late(q): return q + len(made)")
print(made, late(10), eval("sum(made) + 1"))
for name in ("alpha", "beta", "gamma", "delta"):
    try:
        print(name, visit(name), end=" ")
    except RuntimeError as error:
        print(error)
print(state, sorted(k for k in globals() if k in ("state", "limit", "made")))
scope = {"y": 5}
exec("x = y * 2\ny = x + 1", scope)
print(scope["x"], scope["y"])
