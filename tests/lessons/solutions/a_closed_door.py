import portcall

for place in ["alpha", "beta", "gamma"]:
    try:
        portcall.go(place)
    except OSError:
        portcall.report("closed", place)
