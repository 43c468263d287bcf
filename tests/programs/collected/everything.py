# All at once, with data that lives long while much is made and dropped: more than 10 MB in all.
import json


class Record:
    def __init__(self, key, values):
        self.key, self.values, self.more = key, values, None

    def total(self):
        return sum(self.values) + (self.more.total() if self.more else 0)


def reader(records):
    for key in sorted(records):
        yield key, records[key]


records = {}
log = []
big = 1
for turn in range(11000):
    key = "k%d" % (turn % 97)
    fresh = Record(key, [turn, turn * turn, len(log)])
    fresh.more = records.get(key)
    if fresh.more and fresh.more.more and fresh.more.more.more:
        fresh.more.more = None
    records[key] = fresh
    big = (big * 31 + turn) % 10**80
    text = json.dumps([key, fresh.values, str(big)])
    assert json.loads(text) == [key, fresh.values, str(big)], turn
    try:
        if turn % 7 == 0:
            raise ValueError(text[:40] + "!")
        log.append((lambda t: lambda: t[9:])(text))
    except ValueError as error:
        log.append(lambda said=str(error): said)
    if len(log) > 300:
        said = [one() for one in log[:100]]
        log = log[100:]
        assert len(said) == 100 and all(said), turn
print(big)
for key, record in reader(records):
    print(key, record.values, record.total(), record.more.key if record.more else None)
print(sum(len(one()) for one in log))
