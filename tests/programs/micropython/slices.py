row = list(range(12))
print(row[2:9:3], row[::-1], row[-3:], row[:-9], row[20:], row[5:2])
row[2:4] = [20, 30, 40]
row[:0] = [-1]
del row[-2:]
print(row, len(row))
del row[1:3]
print(row[1:5], row[::4])
text = "a station by the sea"
print(text[2:9], text[-3:], text[4], text[:0] == "")
b = bytearray(b"0123456789")
b[2:5] = b"abcdef"
print(b, b[3:6], bytes(b[3:]))
m = memoryview(b)
m[0:3] = b"xyz"
print(b, bytes(m[1:4]), len(m[2:]))
class Window:
    def __getitem__(self, key):
        return (key.start, key.stop, key.step) if isinstance(key, slice) else key * 2
w = Window()
print(w[1:2], w[::3], w[21], w[:5])
a, *middle, z = row
print(a, middle, z)
(p, (q, r)), *rest = [(1, (2, 3)), 4, 5]
print(p, q, r, rest)
