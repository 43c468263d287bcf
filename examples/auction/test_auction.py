"""The bidder with the highest limit buys, for little more than the others would have paid."""

from pathlib import Path

import pytest

from docking.testing import play

SOURCE = Path(__file__).with_name("auction.py")


@pytest.mark.parametrize(
    ("limits", "price", "bidder"), [(["30", "42", "37"], 40, 2), (["12"], 5, 1), (["1", "80"], 5, 2)]
)
def test_the_highest_bid_wins(limits: list[str], price: int, bidder: int) -> None:
    trial = play(SOURCE, args=limits, via="market")
    assert trial.output == f"sold for {price} to bidder {bidder}\n", trial.errors
