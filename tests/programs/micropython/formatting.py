print("%d %5d|%-5d|%05d %x %o %e %g %s %r %%" % (42, 42, 42, 42, 255, 8, 12345.678, 0.0001, "s", "r"))
print("{} {1}".replace("{1}", "x").format("a"), "{0}-{1}-{0}".format(1, 2), "{a:>6}|{b:<6}|{a:^7}".format(a="l", b="r"))
print("{:.3f} {:10.2f} {:+d} {:b} {:#x}".format(3.14159, 2.5, 7, 10, 255))
name, value = "port", 12.5
print(f"{name!r:>10} {value:8.3f} {value * 2} {name.upper()[1:]}")
print(",".join(str(i * i) for i in range(12)))
print("%s" % (("tuple", 1),), "%-10s|%10s" % ("left", "right"), "%c%c" % (65, "b"))
print(str([1, "two", 3.5, None, True, (4,), {5: "six"}]), repr("quote ' and \n"))
