"""The files of a page that are also an example are the same in both."""

from __future__ import annotations

import pytest

from tests.docs.pages import blocks
from tests.docs.test_docs_run import ROOT


@pytest.mark.parametrize("name", ["inventory.py", "journey.py", "shops.py", "wanted.json"])
def test_a_working_day(name: str) -> None:
    *_, last = (block for block in blocks(ROOT / "docs/tutorial/a-working-day.md") if block.title == name)
    assert last.text == (ROOT / "examples" / "inventory" / name).read_text(encoding="utf-8")
