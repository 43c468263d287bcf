import gc

class Node:
    def __init__(self, value, other):
        self.value, self.other = value, other
        self.loop = self

def chain(n):
    head = None
    for i in range(n):
        head = Node(i, head)
    return head

total = 0
for turn in range(6):
    head = chain(60)
    if turn % 2:
        gc.collect()
    while head:
        total += head.value
        head = head.other
    junk = [bytearray(200) for _ in range(20)]
print(total, len(junk), sum(len(b) for b in junk))
gc.collect()
buffers = [bytes([i]) * (i * 10) for i in range(30)]
print(sum(sum(b) for b in buffers), buffers[3])
