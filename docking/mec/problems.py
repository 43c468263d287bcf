"""Errors of the API, as the problem details of RFC 9457 (before: RFC 7807), which MEC 009 asks for.

Invariant: the detail is a sentence of ours, and repeats nothing that a client sent beyond short, printable words.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from attrs import frozen

from docking.errors import DockingError

PROBLEM_TYPE = "application/problem+json"
# RFC 9110 has other names for two of them than Pythons before 3.13.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


class Problem(DockingError):
    """A request that is refused: with a status and a sentence."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


@frozen
class Details:
    """What is sent of a problem. `instance`: the path of the request."""

    status: int
    detail: str
    instance: str

    def value(self) -> dict[str, object]:
        """As plain values."""
        title = _TITLES.get(self.status) or HTTPStatus(self.status).phrase
        return {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "instance": self.instance,
        }


def bad_request(detail: str) -> Problem:
    """400: the request itself is wrong."""
    return Problem(400, detail)


def unauthorized(detail: str) -> Problem:
    """401: credentials are missing, or unknown."""
    return Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="amsi"'})


def forbidden(detail: str) -> Problem:
    """403: not now, or not for this client."""
    return Problem(403, detail)


def not_found(detail: str) -> Problem:
    """404: no such resource."""
    return Problem(404, detail)


def conflict(detail: str) -> Problem:
    """409: not in this state."""
    return Problem(409, detail)


def unprocessable(detail: str) -> Problem:
    """422: well formed, and cannot be done."""
    return Problem(422, detail)


def too_many(detail: str) -> Problem:
    """429: a bound is reached."""
    return Problem(429, detail, {"Retry-After": "10"})
