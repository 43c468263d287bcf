import portcall

total = 0
while portcall.next_stop():
    portcall.go(portcall.next_stop())
    answer = portcall.call("stock.count").decode()
    if answer.isdigit() and len(answer) < 7:
        total += int(answer)
portcall.report("total", total)
