import portcall

seen = []
for station in ["alpha", "beta", "gamma"]:
    try:
        portcall.go(station)  # the next line runs there
    except OSError as error:
        print(f"{station} cannot be reached: error {error.errno}")
        continue
    seen.append(portcall.here())
    print(f"stop {len(seen)}: {portcall.here()}")
portcall.report("route", " ".join(seen))
