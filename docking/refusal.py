"""A refusal: why an agent does not come in, or did not get away. Data, and no exception.

Invariant: the code is for programs and stays the same; the reason is a sentence for people.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Refusal:
    """Why not. `code`: stable, for programs; `reason`: a sentence for people.

    `retry_after`: seconds after which another attempt has a chance; 0 for never.
    """

    code: str
    reason: str
    retry_after: int = 0
