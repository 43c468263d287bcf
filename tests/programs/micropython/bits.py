def popcount(n):
    c = 0
    while n:
        n &= n - 1
        c += 1
    return c
def reverse(n, width):
    r = 0
    for _ in range(width):
        r = r << 1 | n & 1
        n >>= 1
    return r
print([popcount(n * 37) for n in range(16)], reverse(13, 8), ~5, -5 >> 1, 5 & -6, 3 | 8, 6 ^ 3)
state, out = 0xACE1, []
for _ in range(60):
    bit = (state ^ state >> 2 ^ state >> 3 ^ state >> 5) & 1
    state = state >> 1 | bit << 15
    out.append(str(bit))
print("".join(out), hex(state), bin(10), (255).to_bytes(2, "little"), int.from_bytes(b"\x01\x02", "big"))
gray = [n ^ n >> 1 for n in range(16)]
print(gray, all(popcount(a ^ b) == 1 for a, b in zip(gray, gray[1:])))
