# Files written and read, in memory and in the agent's luggage: more than 10 MB in all.
import io
import os

total = 0
for turn in range(150):
    name = "file%d.txt" % (turn % 5)
    lines = ["line %d of %d %s" % (k, turn, "." * (k * 10)) for k in range(40)]
    with open(name, "w") as file:
        for line in lines:
            file.write(line + "\n")
    with open(name) as file:
        back = [line.rstrip("\n") for line in file] if turn % 15 == 0 else file.read().split("\n")[:-1]
    assert back == lines, (turn, back[:2])
    with open(name, "rb") as file:
        head = file.read(40)
        rest = file.read()
    assert head + rest == ("\n".join(lines) + "\n").encode(), turn
    memory = io.StringIO()
    for line in back[::7]:
        memory.write(line.upper())
    data = io.BytesIO(head * 9)
    chunks = []
    while True:
        chunk = data.read(17)
        if not chunk:
            break
        chunks.append(chunk)
    total += len(memory.getvalue()) + len(b"".join(chunks)) + len(rest)
    if turn % 15 == 0:
        print(turn, memory.getvalue()[:50], chunks[1])
for k in range(5):
    os.remove("file%d.txt" % k)
print(total)
