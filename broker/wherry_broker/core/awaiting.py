"""Awaiting: who waits for the ends of messages is told when they come. No restart survives any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import replies
from wherry_broker.core import inquiring
from wherry_broker.core.outcomes import Kept, Outcomes, Wait, place_of, results_between, same
from wherry_broker.core.watching import check_room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.stores import Keeper


class Awaiting:
    """Keeps those who wait, and answers them.

    Args:
        ledger: the durable state.
        answers: where answers go.
    """

    def __init__(self, ledger: Ledger, answers: Answers) -> None:
        self._ledger = ledger
        self._answers = answers
        self._timers = ledger.state.timers

    def wait(self, wait: Wait, until_ms: int) -> None:
        """Answers somebody once messages end that have not ended.

        Raises:
            Refusal: unavailable, the session waits for too much.
        """
        session = wait.session
        check_room(session, wait.store, wait.left)
        session.waits[wait] = None
        session.awaited += wait.left
        wait.store.wait(wait)
        self._timers.arm(wait, until_ms)

    def run(self, stores: Sequence[Keeper]) -> None:
        """Answers all who wait for ends that have come to some of the stores since the last time."""
        for store in stores:
            if not isinstance(store, Outcomes):
                continue
            news, store.news = store.news, {}
            for batch in news:
                if batch.block.data is None and batch.spans:
                    self._ledger.pager.want(batch)
                    store.news[batch] = None
                else:
                    self._tell(store, batch)

    def expire(self, wait: Wait, now_ms: int) -> None:
        """Its time is over: it is told how those messages stand that have not ended.

        Those that have ended since `run` are news still, and it is told of them as of any other end.
        """
        store = wait.store
        offsets = [each for each in store.awaited(wait) if store.outcome(wait.queue, each) is None]
        store.forget(wait, offsets)
        self._less(wait, len(offsets))
        for offset in offsets:
            reply = self._stands(wait.request_of(offset), wait.queue, offset, now_ms)
            self._answers.say(wait.session, reply, wait.store.mark)

    def forget_session(self, session: Session) -> None:
        """A session has gone, and nobody is to be told."""
        for wait in list(session.waits):
            wait.store.forget(wait, wait.store.awaited(wait))
            self._leave(wait)

    def _less(self, wait: Wait, count: int) -> None:
        wait.left -= count
        wait.session.awaited -= count
        if not wait.left:
            self._leave(wait)

    def _leave(self, wait: Wait) -> None:
        self._timers.disarm(wait)
        wait.session.awaited -= wait.left
        del wait.session.waits[wait]

    def _tell(self, store: Outcomes, batch: Batch) -> None:
        """Tells all of a batch that somebody waits for."""
        queue, first = place_of(batch)
        first -= batch.first
        waits = store.waits.get(queue, {})
        for span in batch.spans:
            for low, high, who in list(same(range(first + span.low, first + span.high), waits)):
                for offset in range(low, high):
                    del waits[offset]
                place = low - first - batch.first
                for wait in who:
                    self._answer(wait, batch, low, (place, place + high - low))
        if not waits:
            store.waits.pop(queue, None)

    def _answer(self, wait: Wait, batch: Batch, low: int, part: tuple[int, int]) -> None:
        start, stop = part
        session, request, count = wait.session, wait.request_of(low), stop - start
        session.answered_bytes += batch.block.bytes_between(start, stop)
        if wait.results_only and inquiring.is_settled(batch.block.cut(start, start + 1)[1]):
            returned = replies.Returned(((request, count),), *results_between(batch, start, stop))
            self._answers.say(session, returned, wait.store.mark)
        else:
            for place in range(count):
                told = inquiring.told(request + place, Kept(batch, start + place))
                self._answers.say(session, told, wait.store.mark)
        self._less(wait, count)

    def _stands(self, request: int, queue_name: str, offset: int, now_ms: int) -> replies.Reply:
        queue = self._ledger.state.names.get(queue_name)
        span = queue.span_at(offset) if queue is not None else None
        if queue is None or span is None:  # it has ended, and that is forgotten already
            return replies.Error(request, "not_found", inquiring.unknown(queue_name, offset).text, queue=queue_name)
        return replies.Told(request, inquiring.status_of(queue, span, offset, now_ms))
