import sys

header = sys.stdin.readline().strip().split()
print("header", header)
total, longest = 0, ""
for line in sys.stdin:
    word = line.strip()
    if word == "end":
        break
    total += len(word)
    if len(word) > len(longest):
        longest = word
print(total, longest)
rest = sys.stdin.read()
print(repr(rest[:9]), len(rest.split()))
print(repr(sys.stdin.readline()), repr(sys.stdin.read()))
