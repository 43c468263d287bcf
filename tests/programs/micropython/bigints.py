def factorial(n):
    r = 1
    for i in range(2, n + 1):
        r *= i
    return r

print(factorial(45))
print(2**200 - 3**100, (2**200) % (3**50), (10**30) // 7)
print(pow(7, 123, 10**18 + 9), (1 << 130) >> 65, -(2**70) // 3, (-(2**70)) % 1000)
a, b = 0, 1
for _ in range(300):
    a, b = b, a + b
print(a)
print(hex(2**80 + 255), int("ff" * 12, 16) & (2**64 - 1), (2**77) ^ (2**75 + 1))
x = 10**40
digits = 0
while x:
    x //= 10
    digits += 1
print(digits, int("123456789012345678901234567890") * -1)
