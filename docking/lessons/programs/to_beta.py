"""Goes to beta, however often that takes, and says where it is."""

import portcall

portcall.sleep(86400)  # until it is woken
while portcall.here() != "beta":
    try:
        portcall.go("beta")
    except OSError:
        portcall.sleep(0.02)
portcall.report("arrived", portcall.here())
