# Joined, cut, replaced and formatted text, and bytes: more than 10 MB in all.
def turn(i):
    s = ",".join(str(x) for x in range(200))
    assert s.count(",") == 199 and s.endswith("198,199"), (i, s[:60])
    words = s.split(",")
    back = "-".join(reversed(words))
    text = "%d of %s is %r" % (i, words[i % 200], back[:7])
    raw = (text + s).encode()
    cut = raw[3:90].replace(b",", b";") + bytes([i % 256]) * 20
    lines = "{}|{:>6}|{}".format(i, words[-1], back[-5:]).upper()
    swapped = bytearray(raw)
    swapped[0:4] = b"----"
    return text, cut, lines, bytes(swapped[:9])


kept = []
length = 0
for i in range(1200):
    one = turn(i)
    length += sum(len(part) for part in one)
    if i % 60 == 0:
        kept.append(one)
print(length)
for one in kept:
    print(one)
