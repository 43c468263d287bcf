"""Collects prices. At mallory it waits for a word before it goes on."""

import portcall

portcall.report("bread at alpha", "3.20")
portcall.go("mallory")
portcall.report("bread at mallory", "9.90")
portcall.recv()
portcall.go("next")
portcall.report("ended at", portcall.here())
