# Documents written, read and searched: more than 10 MB in all.
import json
import re

date = re.compile("([0-9]+)-([0-9]+)-([0-9]+)")
word = re.compile("[a-z]+")
total = 0
for turn in range(2800):
    document = {
        "id": turn,
        "names": ["name%d" % k for k in range(10)],
        "nested": [{"a": [k, [k + 1, None, True]], "b": "x" * k} for k in range(8)],
        "text": "on %d-%02d-%02d and \"quoted\" \\ too" % (turn + 2000, turn % 12 + 1, turn % 28 + 1),
    }
    text = json.dumps(document)
    back = json.loads(text)
    assert back == document, (turn, text[:80])
    found = date.search(back["text"])
    assert found.group(1) == str(turn + 2000), (turn, found.group(0))
    parts = [found.group(k) for k in range(4)]
    pieces = re.compile("[,:]").split("%d,%d:%d" % (turn, turn + 1, turn + 2))
    assert pieces == [str(turn), str(turn + 1), str(turn + 2)], pieces
    swapped = word.sub(lambda m: m.group(0).upper(), back["text"])
    total += len(text) + len(swapped) + sum(len(p) for p in parts)
    if turn % 280 == 0:
        print(parts, pieces, swapped, len(text))
print(total)
