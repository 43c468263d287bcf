import binascii
import hashlib

h = hashlib.sha256(b"portcall")
for i in range(20):
    h.update(bytes([i]) * i)
print(binascii.hexlify(h.digest()).decode())
def fnv(data):
    x = 0xCBF29CE484222325
    for b in data:
        x = ((x ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return x
print(hex(fnv(b"a station by the sea")), fnv(b""))
crc = 0xFFFFFFFF
for byte in b"123456789":
    crc ^= byte
    for _ in range(8):
        crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
print(hex(crc ^ 0xFFFFFFFF), binascii.b2a_base64(b"hop by hop"), binascii.unhexlify("cafe"))
