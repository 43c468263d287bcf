def quick(a):
    if len(a) < 2:
        return a
    p = a[len(a) // 2]
    return quick([x for x in a if x < p]) + [x for x in a if x == p] + quick([x for x in a if x > p])

def merge(a):
    if len(a) < 2:
        return a
    left, right = merge(a[: len(a) // 2]), merge(a[len(a) // 2 :])
    out = []
    while left and right:
        out.append(left.pop(0) if left[0] <= right[0] else right.pop(0))
    return out + left + right

def heap(a):
    import heapq
    h = []
    for x in a:
        heapq.heappush(h, x)
    return [heapq.heappop(h) for _ in range(len(h))]

numbers = [(i * 7919) % 101 for i in range(60)]
expected = sorted(numbers)
print(quick(numbers) == expected, merge(numbers) == expected, heap(numbers) == expected, expected[::10])
words = "the quick brown fox jumps over the lazy dog".split()
print(sorted(words, key=lambda w: (len(w), w)), sorted(words, key=lambda w: (-len(w), w)), sorted(words, reverse=True)[0])
numbers.sort(key=lambda n: (n % 10, n))
print(numbers[:12])
