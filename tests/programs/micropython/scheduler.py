def task(name, turns):
    for i in range(turns):
        print(name, i, end="; ")
        yield
    return name + " done"

def run(tasks):
    results = []
    while tasks:
        t = tasks.pop(0)
        try:
            next(t)
        except StopIteration as stop:
            results.append(stop.value)
        else:
            tasks.append(t)
    return results

def nested():
    a = yield from task("inner", 2)
    b = yield from task("again", 1)
    return a + ", " + b

print(run([task("a", 3), nested(), task("b", 1)]))
