def risky(n):
    if n % 3 == 0:
        raise ValueError(n)
    return n

def guarded(n):
    try:
        return risky(n)
    except ValueError as error:
        return -error.args[0]
    finally:
        count[0] += 1

count, total = [0], 0
for n in range(16000):
    total += guarded(n)
print(total, count[0])
