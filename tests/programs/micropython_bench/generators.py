def numbers(n):
    for i in range(n):
        yield i

def squares(items):
    for i in items:
        yield i * i

def flat(depth):
    if depth == 0:
        yield 1
    else:
        yield from flat(depth - 1)
        yield from flat(depth - 1)

total = 0
for turn in range(35):
    total += sum(squares(numbers(400))) + sum(flat(7))
print(total)
