import hashlib

state = 12345
def draw(n):
    global state
    state = state * 1103515245 + 12345 & 0x7FFFFFFF
    return (state >> 8) % n
cards = list(range(20))
for i in range(len(cards) - 1, 0, -1):
    j = draw(i + 1)
    cards[i], cards[j] = cards[j], cards[i]
print(cards, sorted(cards) == list(range(20)))
rolls = {}
for _ in range(60):
    roll = draw(6) + draw(6)
    rolls[roll] = rolls.get(roll, 0) + 1
print(sorted(rolls.items()))
h = hashlib.sha256()
for c in cards:
    h.update(bytes([c]))
print("".join("%02x" % b for b in h.digest())[:24])
