"""What can go wrong, by whose fault. Not here: what is retried; see `retry`."""

from __future__ import annotations


class FanfareError(Exception):
    """Every error of this package."""


class RequestError(FanfareError):
    """The server refused a request; `code` is one of the protocol's error codes."""

    def __init__(self, code: str, message: str, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class RefusedError(FanfareError):
    """The server answered the upgrade request with `status`, and a retry would not help."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"the server answered {status}: {body}")
        self.status = status


class ClosedError(FanfareError):
    """The connection ended with `code`, and a retry would not help."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server closed the connection with {code}: {reason}")
        self.code = code
        self.reason = reason


class UnreachableError(FanfareError):
    """No connection came up in time."""


class ProtocolError(FanfareError):
    """The server sent what the protocol does not allow."""
