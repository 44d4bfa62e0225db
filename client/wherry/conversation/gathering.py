"""The results of many messages, gathered by few requests. Pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from wherry import errors
from wherry.conversation.asks import Ask
from wherry.model import commands, replies
from wherry.model.fields import BATCH_MESSAGES_MAX, ROWS_MAX
from wherry.model.names import message_id, split_id
from wherry.model.status import LIVE, no_result
from wherry.wire.messages import unpack_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.model.fields import UnresultedRow


class Gathering:
    """Asks for the results of messages until all are there.

    Args:
        messages: their ids; each once.

    Raises:
        ValueError: one of them is no id.
    """

    def __init__(self, messages: Iterable[str]) -> None:
        self.found: list[bytes | errors.WherryError] = []
        self._ids = list(map(split_id, messages))

    def next(self) -> Ask[replies.Results] | None:
        """What to ask next; None when all are there."""
        start = len(self.found)
        if start == len(self._ids):
            return None
        queue = self._ids[start][0]
        ranges: list[list[int]] = []
        seen: set[int] = set()
        for name, offset in self._ids[start : start + BATCH_MESSAGES_MAX]:
            if name != queue or offset in seen:
                break
            if not ranges or sum(ranges[-1]) != offset:
                if len(ranges) == ROWS_MAX:
                    break
                ranges.append([offset, 0])
            ranges[-1][1] += 1
            seen.add(offset)
        asked = tuple((first, count) for first, count in ranges)
        return Ask(partial(commands.ReadResults, queue=queue, ranges=asked), lambda reply: reply)

    def take(self, reply: replies.Results) -> None:
        """Takes an answer to what `next` has asked.

        Raises:
            ProtocolError: it tells nothing.
        """
        if not reply.lengths:
            raise errors.ProtocolError("the broker tells the results of no message")
        start, end = len(self.found), 0
        for size in unpack_lengths(reply.lengths):
            self.found.append(reply.block[end : end + size])
            end += size
        for position, error in self._errors(start, reply.unresulted):
            self.found[position] = error

    def _errors(self, start: int, rows: Iterable[UnresultedRow]) -> Iterator[tuple[int, errors.WherryError]]:
        for place, state, reason, error, *_ in rows:
            name = message_id(*self._ids[start + place])
            if not state:
                text = f"there is no message {name}, and it is not remembered how it ended"
                yield start + place, errors.NotFound(text)
            elif state in LIVE:
                text = f"message {name} has not ended: it is {state}"
                yield start + place, errors.RequestTimeout(text, outcome_unknown=False)
            else:
                yield start + place, no_result(name, state, reason, error)
