"""A refusal: why an agent is not admitted, or could not leave. It is data, not an exception.

Invariant: the code is for programs and never changes; the reason is a sentence for people.
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
