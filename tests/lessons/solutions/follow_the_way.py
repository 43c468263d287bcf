import portcall

while portcall.next_stop():
    portcall.go(portcall.next_stop())
