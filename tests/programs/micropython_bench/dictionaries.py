d, seed = {}, 1
for i in range(16000):
    seed = (seed * 1103515245 + 12345) & 0x3FFFFFFF
    key = (seed >> 8) % 700
    if key in d and i % 3 == 0:
        del d[key]
    else:
        d[key] = d.get(key, 0) + 1
words = {}
for i in range(4000):
    w = "w%d" % (i * 7 % 199)
    words[w] = words.get(w, 0) + 1
print(len(d), sum(d.values()), len(words), words["w7"])
