def down(n, trail):
    trail.append(n)
    if n == 0:
        return 0
    result = 1 + down(n - 1, trail)
    trail.append(-n)
    return result

trail = []
print(down(30, trail), len(trail), sum(trail), trail[30:33])

def endless(n):
    return endless(n + 1)

try:
    endless(0)
except RuntimeError as error:
    print("stopped by", "RuntimeError", isinstance(error, Exception))
