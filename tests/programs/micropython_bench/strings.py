parts, found = [], 0
for i in range(5000):
    parts.append("%d:%s" % (i, "abc"[i % 3]))
text = ",".join(parts)
counts = {}
for c in text:
    counts[c] = counts.get(c, 0) + 1
for turn in range(6):
    for piece in text.split(","):
        number, letter = piece.split(":")
        if letter == "a" and number.find("7") >= 0:
            found += int(number)
print(len(text), found, sorted(counts.items())[:4], text.replace("1", "one").upper()[-20:])
