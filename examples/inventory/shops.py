STOCK = {
    "quay": {"nuts": 12, "bolts": 80},
    "market": {"nuts": 3, "bolts": 5},
    "mill": {"nuts": 40, "bolts": 7},
}


def services(station):
    if station.name in STOCK:

        @station.service("stock.count")
        def count(request, visitor):
            return str(STOCK[station.name][request.decode()])

        @station.service("stock.order")
        def order(request, visitor):
            return f"{station.name}-{visitor.call}"
