def escape(cr, ci):
    r = i = 0.0
    for n in range(40):
        r, i = r * r - i * i + cr, 2 * r * i + ci
        if r * r + i * i > 4:
            return n
    return 40

total = 0
for y in range(50):
    for x in range(70):
        total += escape(x / 28.0 - 2, y / 20.0 - 1.25)
print(total)
