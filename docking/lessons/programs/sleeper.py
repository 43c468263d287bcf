"""Waits at home until it is woken, goes to beta, and waits there for a word."""

import portcall

portcall.sleep(86400)
try:
    portcall.go("beta")
except OSError as error:
    print("go was refused: error", error.errno)
    portcall.sleep(86400)
portcall.report("lives at", portcall.here())
portcall.recv()
