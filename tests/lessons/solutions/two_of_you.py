import portcall

portcall.go("alpha" if portcall.clone() else "beta")
portcall.report("was at", portcall.here())
