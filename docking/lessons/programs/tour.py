"""Asks for a price wherever its itinerary leads."""

import portcall

while portcall.next_stop():
    portcall.go(portcall.next_stop())
    portcall.report("price", portcall.call("price.ask", "bread"))
