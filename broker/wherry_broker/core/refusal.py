"""A refusal is an exception, so that a decision is either whole or nothing."""

from __future__ import annotations


class Refusal(Exception):
    """The command is refused. The arguments are fields of `wherry.model.replies.Error`."""

    def __init__(
        self,
        code: str,
        text: str,
        *,
        retry_after_ms: int = 0,
        queue: str = "",
        bound: str = "",
        retryable: bool = False,
        first: int = 0,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.queue = queue
        self.bound = bound
        self.first = first
