def station():
    visits = 0
    try:
        while True:
            try:
                name = yield visits
                visits += 1
                print("hello", name)
            except KeyError as error:
                print("refused", error.args[0])
                visits += 100
    finally:
        print("closing after", visits)

s = station()
next(s)
print(s.send("ada"), s.throw(KeyError("bob")), s.send("eve"))
try:
    s.throw(ValueError("storm"))
except ValueError as error:
    print("ended by", error)

def returning():
    yield 1
    return "the end"

r = returning()
next(r)
try:
    next(r)
except StopIteration as stop:
    print(stop.value)
