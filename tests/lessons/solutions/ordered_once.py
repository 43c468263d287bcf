import portcall

portcall.go("alpha")
order = portcall.me() + " 1: three loaves"
while True:
    try:
        print(portcall.call("shop.order", order))
        break
    except OSError:
        portcall.sleep(1)
