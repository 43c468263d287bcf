x = 0
for i in range(1200):
    j = 0
    while j < 300:
        x = (x * 31 + i ^ j) & 0xFFFFF
        j += 1
print(x)
