"""Goes where it was sent, and takes its time there."""

import portcall

while portcall.next_stop():
    portcall.go(portcall.next_stop())
    portcall.sleep(0.3)
    portcall.report("was at", portcall.here())
    print("done at", portcall.here())
