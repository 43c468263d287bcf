import portcall

try:
    word = portcall.recv(1).decode()
    portcall.report("backwards", "".join(reversed(word)))
except OSError:
    portcall.report("backwards", "nothing came")
