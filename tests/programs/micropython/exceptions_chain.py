class Storm(Exception):
    def __init__(self, force, *more):
        super().__init__(force, *more)
        self.force = force
    def __str__(self):
        return "storm of force %d" % self.force
class Gale(Storm):
    pass
def sail(n):
    try:
        if n == 0:
            raise Gale(9, "bay")
        if n == 1:
            return [][n]
        if n == 2:
            return {}["port"]
        if n == 3:
            return n / 0
        if n == 4:
            raise StopIteration(7)
        if n == 5:
            assert n < 5, "too far"
        return "arrived"
    except Storm as s:
        s.force += 1
        raise
    except LookupError as e:
        return "lookup " + type(e).__name__
    finally:
        order.append(n)
order = []
for n in range(7):
    try:
        print(n, sail(n))
    except Gale as g:
        print(n, g, g.args, isinstance(g, Storm))
    except (ArithmeticError, AssertionError) as e:
        print(n, type(e).__name__, len(e.args))
    except BaseException as e:
        print(n, type(e).__name__, e.value if isinstance(e, StopIteration) else "")
    else:
        print("calm", end=" ")
print(order)
def deep(n):
    try:
        if n:
            deep(n - 1)
        else:
            raise KeyError("bottom")
    except KeyError as e:
        if n % 3 == 0:
            raise ValueError(n) from e
        raise
    except ValueError as e:
        raise ValueError(e.args[0] + 1)
try:
    deep(10)
except ValueError as e:
    print(e.args)
def swallowed():
    for i in range(3):
        try:
            raise OSError(i)
        except OSError:
            continue
        finally:
            if i == 1:
                break
    return i
print(swallowed())
def early():
    try:
        return "try"
    finally:
        print("finally", end=" ")
print(early())
try:
    try:
        1 / 0
    finally:
        None.attribute
except AttributeError as e:
    print(type(e).__name__)
