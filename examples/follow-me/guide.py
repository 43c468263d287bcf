"""A guide for one traveller: it keeps a map and the whole trip in its memory, and answers where the traveller is.

GET /?KM    what is near the kilometre KM, and how far the traveller has come; as JSON
"""

import os

import portcall

MAP_MIB = 8
TILE = 16 << 10

tiles = bytearray(MAP_MIB << 20)
for at in range(0, len(tiles), TILE):
    tiles[at : at + TILE] = os.urandom(TILE)
trip = []


def handler(request):
    at = float(request.query or 0)
    trip.append(at)
    sight = tiles[int(at * 64 * TILE) % len(tiles)]
    return {"number": len(trip), "here": portcall.here(), "sight": sight, "km": round(max(trip[-100:]) - trip[0], 3)}


portcall.serve(handler)
