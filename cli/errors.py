"""What goes wrong in a command, for people."""

from __future__ import annotations


class ClientError(Exception):
    """What went wrong, and what to do; for people.

    Args:
        message: the words.
        may_pass: whether the same again may go well.
        after: seconds to wait until then, as far as the server said.
        reason: why the server refused, of winnow.error.v1; empty for none.
    """

    def __init__(
        self, message: str, *, may_pass: bool = False, after: float = 0.0, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        self.after = after
        self.reason = reason
