class Countdown:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return self
    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n
print(list(Countdown(5)), sum(Countdown(10)), max(Countdown(7)), 3 in Countdown(9))
class Indexed:
    def __getitem__(self, i):
        if i >= 4:
            raise IndexError
        return i * i
print(list(Indexed()), [x for x in Indexed()])
print(list(enumerate("abc", 1)), list(reversed([1, 2, 3])), list(zip("ab", Countdown(9))))
def take(n, it):
    out = []
    for x in it:
        if n == 0:
            break
        n -= 1
        out.append(x)
    return out
def naturals():
    n = 0
    while True:
        yield n
        n += 1
print(take(5, naturals()), take(2, Countdown(8)), min(enumerate([5, 3, 9]), key=lambda p: p[1]))
print(iter(Countdown(2)).__next__(), next(iter([]), "empty"))
