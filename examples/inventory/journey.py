import portcall


def stops():
    """Travel; yields at each stop. Reports the stops that are passed by."""
    while portcall.next_stop():
        shop = portcall.next_stop()
        portcall.go("next")
        if portcall.here() != shop:
            portcall.report("closed", shop)
        yield portcall.here()
