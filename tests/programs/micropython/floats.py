import math
x = 2.0
for i in range(12):
    x = x - (x * x - 7) / (2 * x)
print("%.10f" % x, "%.6f" % math.sqrt(7))
s = 0.0
for k in range(200):
    s += (-1) ** k / (2 * k + 1)
print("%.8f" % (4 * s), "%.6f" % math.pi)
print("%.6f %.6f %.6f" % (math.sin(1), math.exp(1.5), math.log(10)), math.floor(-2.5), math.ceil(2.1), round(3.7))
print(float("inf") > 1e300, float("nan") == float("nan"), 7 // 2.0, -7 % 3, divmod(17, 5), int(-3.9))
mean = sum([1.5, 2.5, 4.0]) / 3
print("%.4f %.4f" % (mean, math.sqrt(sum((v - mean) ** 2 for v in [1.5, 2.5, 4.0]))), abs(-2.5), 1e3 == 1000)
