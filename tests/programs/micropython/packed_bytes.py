import binascii
import struct
from array import array

record = struct.pack("<HIq4s", 513, 70000, -5, b"port")
print(record, struct.calcsize("<HIq4s"), struct.unpack("<HIq4s", record))
print(struct.pack(">bBhHf", -1, 255, -2, 65535, 1.5), struct.unpack(">f", b"\x3f\xc0\x00\x00"))
b = bytearray(16)
struct.pack_into("<d", b, 4, 2.5)
print(b, struct.unpack_from("<d", b, 4)[0])
print(binascii.hexlify(b"sea"), binascii.unhexlify("706f7274"), binascii.b2a_base64(b"portcall"))
a = array("h", [3, -1, 500])
a.append(-32768)
a.extend(array("h", [7]))
print(len(a), a[2], sum(a), list(a), bytes(a)[:4])
try:
    struct.unpack("<I", b"abc")
except (struct.error if hasattr(struct, "error") else ValueError):
    print("too short")
crc = 0xFFFFFFFF
for byte in b"123456789":
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
print(hex(crc ^ 0xFFFFFFFF), hex(binascii.crc32(b"123456789")))
