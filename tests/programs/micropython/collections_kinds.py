import heapq
from collections import OrderedDict, deque, namedtuple

Berth = namedtuple("Berth", ("name", "depth"))
b = Berth("quay", 9)
print(b.name, b[1], b == ("quay", 9), len(b))
try:
    b.depth = 3
except AttributeError:
    print("fixed")
q = deque((), 5)
for i in range(7):
    q.append(i)
print(list(q), q.popleft(), q.pop(), len(q))
d = OrderedDict((("b", 1), ("a", 2)))
d["c"] = 3
print(list(d.items()), d.popitem())
heap = []
for n in (5, 1, 8, 3, 9, 2):
    heapq.heappush(heap, n)
print([heapq.heappop(heap) for _ in range(len(heap))])
one, two = {1, 2, 3, 4}, {3, 4, 5}
print(sorted(one | two), sorted(one & two), sorted(one - two), sorted(one ^ two), {3} <= one, one.isdisjoint({9}))
frozen = {frozenset((1, 2)): "pair"}
print(frozen[frozenset((2, 1))])
words = "the sea the quay the pier a sea".split()
count = {}
for w in words:
    count.setdefault(w, []).append(len(count))
print(sorted(count.items()), count.get("none", "-"), count.pop("a"), "a" in count)
print(sorted({k: v for k, v in zip("abc", range(3))}.items()), dict(x=1, **{"y": 2})["y"], dict([("k", "v")]))
nested = {"a": [1, {"b": (2, 3)}]}
nested["a"][1]["c"] = nested["a"][0]
print(nested["a"][1]["c"], sorted(nested["a"][1]), list(enumerate("ab", 5)), list(map(max, [1, 5], [3, 2])))
print(list(filter(None, [0, 1, "", "x"])), all([]), any([0, ""]), sum([[1], [2]], []), min("quay"), sorted("sea", reverse=True))
