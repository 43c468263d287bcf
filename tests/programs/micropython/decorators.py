log = []
def traced(label):
    def wrap(f):
        def inner(*args, **kw):
            log.append("%s in %s" % (label, args))
            try:
                return f(*args, **kw)
            finally:
                log.append("%s out" % label)
        return inner
    return wrap
@traced("outer")
@traced("inner")
def area(w, h=2):
    if w < 0:
        raise ValueError("negative")
    return w * h
print(area(3), area(3, h=5))
try:
    area(-1)
except ValueError as e:
    print("caught", e)
print(len(log), log[:4], log[-1])
def memo(f):
    known = {}
    def inner(n):
        if n not in known:
            known[n] = f(n)
        return known[n]
    return inner
@memo
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(fib(40))
class Tank:
    made = 0
    def __init__(self, litres):
        self._litres = litres
        Tank.made += 1
    @property
    def litres(self):
        return self._litres
    @litres.setter
    def litres(self, value):
        if value < 0:
            raise ValueError("empty")
        self._litres = value
    @classmethod
    def full(cls):
        return cls(100)
    @staticmethod
    def gallons(litres):
        return litres * 100 // 379
t = Tank.full()
t.litres -= 30
print(t.litres, Tank.gallons(t.litres), Tank.made)
try:
    t.litres = -1
except ValueError as e:
    print(e, t.litres)
