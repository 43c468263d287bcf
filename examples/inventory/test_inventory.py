import inventory
import pytest
import shops

TRIP = {"via": "quay,market?,mill", "files": ["wanted.json"], "packages": ["bisect"]}


def told(report):
    return {result.key: result.text for result in report.results}


@pytest.mark.parametrize(("pieces", "each"), [(1, 9), (9, 9), (10, 7), (99, 7)])
def test_price(pieces, each):
    assert inventory.price({"from": [1, 10], "price": [9, 7]}, pieces) == each


def test_all_shops(agent):
    trial = agent("inventory.py", services=shops.services, **TRIP)
    assert trial.visited == ("home", "quay", "market", "mill")
    assert told(trial)["to pay"] == str(8 * 9 + 5 * 4 + 17 * 7 + 3 * 4)
    assert told(trial)["market-4"] == "17 nuts"


def test_a_shop_that_is_closed(agent):
    trial = agent("inventory.py", services=shops.services, down=["market"], **TRIP)
    assert trial.visited == ("home", "quay", "mill")
    assert (told(trial)["to pay"], told(trial)["closed"]) == ("84", "market")


def test_a_shop_that_it_cannot_pass_by(agent):
    trial = agent("inventory.py", services=shops.services, down=["mill"], **TRIP)
    assert trial.exit_code == 1
    assert told(trial)["to pay"] == "211"


def test_at_real_stations(stations):
    stations("depot", "quay", "market", "mill", services=shops.services)
    stations.stop("market")
    report = stations.run("inventory.py", **TRIP)
    assert (told(report)["to pay"], told(report)["closed"]) == ("84", "market")
    assert [stay.station for stay in report.trail] == ["depot", "quay", "mill"]
