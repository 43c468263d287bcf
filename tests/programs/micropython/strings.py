s = "a station by the sea, a berth and a passport"
print(s.upper(), s.find("berth"), s.replace("a ", "the ")[:30], s.split(", "), s[2:9])
print(s.count("a"), s.startswith("a st"), "-".join(s.split()[:4]), s.strip("at"), "x" * 5, "sea" in s)
counts = {}
for c in s:
    if c.isalpha():
        counts[c] = counts.get(c, 0) + 1
print(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:5])
def caesar(t, k):
    return "".join(chr((ord(c) - 97 + k) % 26 + 97) if c.isalpha() else c for c in t)
print(caesar(s, 13), caesar(caesar(s, 13), 13) == s)
def palindrome(t):
    t = [c for c in t.lower() if c.isalpha()]
    return t == list(reversed(t))
print(palindrome("A man, a plan, a canal: Panama"), palindrome("portcall"))
b = s.encode()
print(b[:5], bytes([65, 66, 255]), sum(b), bytearray(b"xyz")[1], "é€".encode(), b"\xc3\xa9".decode())
