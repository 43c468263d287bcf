class Later:
    def __init__(self, what):
        self.what = what
    def __iter__(self):
        got = yield self.what
        return got
    __await__ = __iter__
async def fetch(name):
    print("ask", name)
    try:
        answer = await Later(name)
    except OSError as e:
        return "no %s (%s)" % (name, e)
    finally:
        print("left", name)
    return "%s=%s" % (name, answer)
async def main(names):
    found = []
    for name in names:
        found.append(await fetch(name))
    return found
def run(task, answers):
    value, error = None, None
    while True:
        try:
            wanted = task.throw(error) if error else task.send(value)
        except StopIteration as end:
            return end.value
        value, error = answers.get(wanted), None
        if value is None:
            error = OSError("closed")
print(run(main(["tide", "wind", "depth"]), {"tide": 3, "depth": 12}))
tasks = [main([c]) for c in "xyz"]
pending = [(t, t.send(None)) for t in tasks]
for t, wanted in reversed(pending):
    try:
        t.send(wanted * 2)
    except StopIteration as end:
        print(end.value)
