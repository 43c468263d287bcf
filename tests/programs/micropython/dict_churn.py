d = {}
seed = 1
for i in range(400):
    seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
    key = (seed >> 8) % 50
    if key in d and i % 3 == 0:
        del d[key]
    else:
        d[key] = d.get(key, 0) + i
print(len(d), sum(d), sum(d.values()))
print(sorted(d.items())[:6])
e = {str(k): v for k, v in sorted(d.items()) if v > 500}
print(sorted(e)[:5], e.pop(sorted(e)[0]), "none" not in e, e.setdefault("new", []))
e["new"].append(1)
e.update({"a": 1, "b": 2})
print(e["new"], len(e), dict(a=1) == {"a": 1}, max(d, key=lambda k: (d[k], k)))
