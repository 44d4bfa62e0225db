"""A refusal is an exception, so that a decision is either whole or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry_broker.core.rates import Line


class Refusal(Exception):
    """The command is refused. The arguments are fields of `wherry.model.replies.Error`, but for the last ones.

    Attributes:
        line: the line that whoever is refused stands in once it was told; None for no line.
        line_ms: the moment at which it was told to come back.
    """

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
        line: Line | None = None,
        line_ms: int = 0,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.queue = queue
        self.bound = bound
        self.first = first
        self.line = line
        self.line_ms = line_ms
