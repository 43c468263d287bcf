import portcall

total = 0
for place in ["alpha", "beta", "gamma"]:
    portcall.go(place)
    total += int(portcall.call("stock.count"))
portcall.report("total", total)
