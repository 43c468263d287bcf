import json
from bisect import bisect

from journey import stops

import portcall


def price(item, pieces):
    """What one piece costs if so many are ordered."""
    return item["price"][bisect(item["from"], pieces) - 1]


def take_stock(shop, plan):
    """Count what the shop has, and order what is missing. Returns what that costs."""
    cost = 0
    for name in sorted(plan):
        count = int(portcall.call("stock.count", name))
        missing = max(0, plan[name]["least"] - count)
        print(shop, "has", count, name, "and needs", missing, "more")
        if missing:
            number = portcall.call("stock.order", f"{name} {missing}").decode()
            portcall.report(number, f"{missing} {name}")
            cost += missing * price(plan[name], missing)
    return cost


def main():
    with open("/agent/wanted.json") as file:
        plan = json.load(file)
    total = 0
    try:
        for shop in stops():
            total += take_stock(shop, plan)
    finally:
        portcall.report("to pay", total)


if __name__ == "__main__":
    main()
