"""Goes to the laptop whenever that is open, and takes what it was told while it waited."""

import portcall

portcall.go("laptop", wait=24 * 3600)
print("at", portcall.here())
portcall.report("told", portcall.recv())
