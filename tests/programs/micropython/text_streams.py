import io
import json
import re

out = io.StringIO()
for i in range(5):
    print(i, i * i, sep=":", end=";", file=out)
print(out.getvalue(), len(out.getvalue()))
src = io.StringIO("name=beta\n# note\nport = 7711\n\nbad line\n")
found = {}
for line in src:
    line = line.strip()
    if not line or line[0] == "#":
        continue
    m = re.match("([a-z]+) *= *(.*)", line)
    if m is None:
        print("no match:", line)
        continue
    found[m.group(1)] = m.group(2)
print(sorted(found.items()))
raw = io.BytesIO(b"\x00\x01sea\xff")
print(raw.read(2), raw.read(), raw.seek(2), raw.read(3))
document = {"trip": [{"stop": s, "n": i} for i, s in enumerate(("alpha", "beta"))], "fee": 2.5, "ok": None}
text = json.dumps(document)
back = json.load(io.StringIO(text))
print(back == document, back["trip"][1]["stop"], json.loads("[1e3, -2, \"\\u0041\"]"))
def tokens(text):
    word = ""
    for c in text + " ":
        if c.isdigit() or c == ".":
            word += c
            continue
        if word:
            yield float(word)
            word = ""
        if c in "+-*/()":
            yield c
def parse(text):
    stream = list(tokens(text))
    def atom():
        t = stream.pop(0)
        if t == "(":
            v = expr()
            stream.pop(0)
            return v
        return -atom() if t == "-" else t
    def term():
        v = atom()
        while stream and stream[0] in ("*", "/"):
            v = v * atom() if stream.pop(0) == "*" else v / atom()
        return v
    def expr():
        v = term()
        while stream and stream[0] in ("+", "-"):
            v = v + term() if stream.pop(0) == "+" else v - term()
        return v
    return expr()
print(parse("2 * (3 + 4) - 10 / 4"), parse("-(1+2)*3"))
