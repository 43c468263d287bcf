import os

os.mkdir("box")
with open("box/notes.txt", "w") as f:
    for i in range(8):
        f.write("line %d\n" % i)
    print(f.tell())
with open("box/notes.txt") as f:
    print(f.readline().strip(), f.read(6), len(f.read()))
    f.seek(7)
    print(f.readline().strip())
with open("box/notes.txt", "a") as f:
    f.write("the end\n")
with open("box/data.bin", "wb") as f:
    print(f.write(bytes(range(64))))
with open("box/data.bin", "rb") as f:
    f.seek(-4, 2)
    print(f.read(), f.read())
os.rename("box/data.bin", "box/moved.bin")
print(sorted(os.listdir("box")), os.stat("box/moved.bin")[6], os.stat("box/notes.txt")[6])
total = 0
for line in open("box/notes.txt"):
    total += len(line)
print(total)
for name in os.listdir("box"):
    os.remove("box/" + name)
os.rmdir("box")
try:
    open("box/notes.txt")
except OSError as e:
    print("gone", e.args[0] in (2, 44))
