import portcall

for place in ["alpha", "beta", "gamma"]:
    portcall.go(place)
    print("now at", portcall.here())
