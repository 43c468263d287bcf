"""The agent: goes to each stop of its itinerary, asks for the temperature there, and reports it."""

import portcall

while portcall.next_stop():
    portcall.go(portcall.next_stop())
    degrees = portcall.call("thermometer.read").decode()
    portcall.report("degrees", degrees)
    print("it is", degrees, "degrees at", portcall.here())
