"""What a client asks for: publishes and settles that gather into few frames, consumers and their credit. Pure.

Everything that was asked for and has no answer yet is kept by the number of its request, with what it takes to ask
again on another connection.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any

from wherry.conversation.consuming import Attach, Consumer, nothing_held
from wherry.conversation.pending import Awaited, Awaiting, Envelope, Other, Publish, Settle
from wherry.conversation.pending import Sequence as Numbers
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX, HEADER_BYTES_MAX
from wherry.wire import codec
from wherry.wire.framing import FRAME_BYTES_MAX, PREFIX_BYTES, FrameReader
from wherry.wire.messages import pack_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry import errors
    from wherry.conversation.consuming import Held
    from wherry.conversation.outcomes import Pending
    from wherry.delivery import Delivery

JOIN_BYTES_MAX = 1_048_576
"""A joined publish is sent once it has this many bytes, so that no frame keeps the others waiting for long."""
JOIN_MESSAGES_MAX = 4_096
SETTLE_ROWS_MAX = 1_024
PUBLISHES_MAX = 8_192
"""How many publishes may be without an answer before more should wait: a broker remembers twice as many."""
REPEATABLE = frozenset(
    {
        commands.Info,
        commands.ListQueues,
        commands.Peek,
        commands.Declare,
        commands.Alter,
        commands.Pause,
        commands.Fetch,
        commands.Expire,
        commands.Watch,
        commands.Status,
        commands.ReadResults,
    }
)
"""Requests that do no more when they are done twice, and so are sent again when their answer is lost."""
SEQUENCED = frozenset({commands.PublishTopic, commands.Commit})
"""Requests that are numbered as publishes are, so that they can be sent again and are done once."""
_REQUEST_MAX = 0xFFFF_FFFF


class Asking:
    """The asking half of a conversation; see `Conversation`."""

    def __init__(
        self,
        token: str = "",
        name: str = "",
        heartbeat_ms: int = 0,
        scratch: memoryview | None = None,
        producer: str = "",
    ) -> None:
        self.reader = FrameReader(FRAME_BYTES_MAX, scratch)
        self.welcome: replies.Welcome | None = None
        self.ended: errors.WherryError | None = None
        self.is_live = True
        self._hello = commands.Hello("wherry", codec.VERSION, codec.VERSION, token, name, heartbeat_ms, producer)
        self._scratch = scratch
        self._out: list[bytes] = [codec.encode(self._hello)]
        self._number = 0
        self._sequence = Numbers()
        self._sequenced = False
        self._unanswered: dict[int, Pending] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._publishes: dict[str, Publish] = {}
        self._settles: dict[tuple[Any, ...], Settle] = {}
        self._awaiting: Awaiting | None = None
        self._extending: tuple[Any, ...] | None = None
        self.block_bytes_max = FRAME_BYTES_MAX - HEADER_BYTES_MAX - PREFIX_BYTES
        self._join_bytes_max = JOIN_BYTES_MAX
        self._consumers: dict[int, Consumer] = {}
        self._due_credit: dict[int, None] = {}
        self._consumer_number = 0

    # What the client wants.

    @property
    def unanswered(self) -> int:
        """How many requests have no answer yet, sent or not."""
        awaiting = len(self._awaiting.awaited) if self._awaiting is not None else 0
        return len(self._unanswered) + len(self._publishes) + len(self._settles) + awaiting

    @property
    def is_full(self) -> bool:
        """Whether so many publishes have no answer that more should wait."""
        numbers = self._sequence
        return numbers.last - numbers.answered >= PUBLISHES_MAX

    def publish(
        self, queue: str, envelope: Envelope, message: tuple[bytes, bytes], waiter: Any, deadline: float
    ) -> None:
        """Publishes one message; its neighbours may travel, and be refused, together with it or apart.

        One with a dedupe key travels alone: the key would stand for all of its frame.

        Args:
            queue: the queue's name.
            envelope: what is asked for the message.
            message: its packed headers, and its body.
            waiter: comes back in Confirmed or Failed.
            deadline: when to give up.
        """
        if envelope.dedupe:
            self.publish_batch(queue, envelope, (message,), waiter, deadline)
            return
        size = len(message[0]) + len(message[1])
        current = self._publishes.get(queue)
        if current is not None and (
            (current.envelope is not envelope and current.envelope != envelope)
            or current.deadline != deadline
            or current.size + size > self._join_bytes_max
            or len(current.waiters) == JOIN_MESSAGES_MAX
        ):
            self._send_publish(self._publishes.pop(queue))
            current = None
        if current is None:
            current = Publish(queue, envelope, deadline, divisible=True)
            self._publishes[queue] = current
        current.pieces += message
        current.sizes.append(size)
        current.size += size
        current.waiters.append(waiter)

    def publish_batch(
        self, queue: str, envelope: Envelope, messages: Sequence[tuple[bytes, bytes]], waiter: Any, deadline: float
    ) -> None:
        """Publishes messages that are stored together or not at all; they fit into one frame."""
        lengths = pack_sizes([len(headers) + len(body) for headers, body in messages])
        self.publish_block(queue, envelope, lengths, b"".join(chain.from_iterable(messages)), waiter, deadline)

    def publish_block(
        self, queue: str, envelope: Envelope, lengths: bytes, block: bytes, waiter: Any, deadline: float
    ) -> None:
        """The same, with the messages as the wire has them: their lengths, and their bytes back to back."""
        assert len(lengths) <= 4 * BATCH_MESSAGES_MAX
        if queue in self._publishes:
            self._send_publish(self._publishes.pop(queue))
        batch = Publish(queue, envelope, deadline, divisible=False)
        batch.waiters.append(waiter)
        self._send_block(batch, lengths, block)

    def settle(
        self,
        delivery: Delivery,
        verb: Verb,
        first: int,
        count: int,
        waiter: Any,
        deadline: float,
        duration_ms: int | None = None,
        text: str = "",
        result: bytes | None = None,
        progress: int | None = None,
    ) -> None:
        """Settles a range of a delivery; see `Delivery.open` and `finish` for what that means for credit.

        A result is that of one message, with an ACK; progress is in thousandths, with an EXTEND.
        """
        # No SETTLE names an offset twice: attempts are kept apart, since one message may be in hand under two.
        has_result = result is not None
        key = (delivery.queue, verb, duration_ms, text, delivery.epoch, delivery.attempt, has_result, progress)
        if self._extending is not None and (key != self._extending or first < self._settles[key].end):
            # What is settled, or extended again, was extended before: the EXTEND leaves first.
            self._send_settle(self._settles.pop(self._extending))
            self._extending = None
        current = self._settles.get(key)
        if current is not None and (
            len(current.rows) >= SETTLE_ROWS_MAX
            or current.total + count > BATCH_MESSAGES_MAX
            or (result is not None and current.result_bytes + len(result) > self._join_bytes_max)
        ):
            self._send_settle(self._settles.pop(key))
            current = None
        if current is None:
            current = Settle(delivery.queue, verb, delivery.epoch, duration_ms, text, deadline, progress)
            self._settles[key] = current
            self._extending = key if verb == Verb.EXTEND else self._extending
        current.add(first, count, delivery.attempt)
        if result is not None:
            current.results.append(result)
            current.result_bytes += len(result)
        if waiter is not None:
            current.waiters.append((waiter, first, count))

    def await_result(self, queue: str, offset: int, wait_ms: int, waiter: Any, deadline: float) -> Awaited:
        """Asks for the result of a message once it has ended; neighbours travel together.

        Args:
            queue: the queue's name.
            offset: its place in it.
            wait_ms: how long to wait for its end.
            waiter: comes back in Answered, with the result or else a TOLD, or in Failed.
            deadline: when to give up.

        Returns:
            What `give_up` takes.
        """
        current = self._awaiting
        if current is not None and (
            len(current.awaited) == BATCH_MESSAGES_MAX or not current.goes_on_with(queue, offset, wait_ms)
        ):
            self._send_awaiting(current)
            current = None
        if current is None:
            current = self._awaiting = Awaiting(queue, offset, wait_ms, deadline)
        awaited = Awaited(queue, offset, wait_ms, waiter)
        current.awaited.append(awaited)
        return awaited

    def request(self, make: Callable[[int], commands.Request], waiter: Any, deadline: float) -> int:
        """Sends any other request.

        Args:
            make: makes the command for a request's number.
            waiter: comes back in Answered or Failed.
            deadline: when to give up.

        Returns:
            Its number, which `give_up` takes.
        """
        self.gather()
        number = self._next_number()
        command: Any = make(number)
        sequence = 0
        if self._sequenced and type(command) in SEQUENCED:
            sequence = self._sequence.next()
            command = command._replace(sequence=sequence, answered=self._sequence.answered)
        frame = codec.encode(command)
        self._send(frame)
        repeatable = sequence > 0 or type(command) in REPEATABLE
        self._await(number, Other(waiter, frame, repeatable=repeatable, sequence=sequence), deadline)
        return number

    def give_up(self, asked: int | Awaited) -> None:
        """Nobody waits for an answer any more: unless it counts whether what was asked was done, it is forgotten.

        Args:
            asked: what `request` or `await_result` returned.
        """
        if isinstance(asked, Awaited):
            asked.waiter = None  # so that it does not count as asked when it has not left yet
            number = asked.number
        else:
            number = asked
        pending = self._unanswered.get(number)
        if pending is asked or (isinstance(pending, Other) and pending.repeatable and not pending.sequence):
            del self._unanswered[number]

    def consume(
        self,
        queue: str,
        window: int,
        lease_ms: int,
        waiter: Any,
        deadline: float,
        held: Callable[[], Iterable[Held]] = nothing_held,
    ) -> int:
        """Attaches a consumer.

        Args:
            queue: the queue's name.
            window: how many messages may be in the client's hands at a time.
            lease_ms: how long a lease is to run; 0 for the queue's own.
            waiter: comes back in Answered or Failed.
            deadline: when to give up.
            held: tells what the client holds of this consumer, for when it is attached again.

        Returns:
            The consumer's number, which Delivered and ConsumerStopped name.
        """
        self._consumer_number += 1
        number = self._consumer_number
        consumer = self._consumers[number] = Consumer(queue, window, lease_ms, held)
        self.gather()
        request = self._next_number()
        self._send(codec.encode(consumer.consume(request, number)))
        self._await(request, Attach(number, waiter), deadline)
        return number

    def stop(self, consumer: int, waiter: Any, deadline: float) -> None:
        """Detaches a consumer. What is delivered until the answer comes is still told of."""
        if consumer in self._consumers:
            self._consumers[consumer].stopping = True
        self.request(lambda request: commands.Stop(request, consumer), waiter, deadline)

    def forget(self, consumer: int) -> None:
        """Forgets a consumer that was stopped."""
        self._consumers.pop(consumer, None)

    def finish(self, consumer: int, count: int) -> None:
        """Takes note that `count` messages of a consumer are in the client's hands no longer."""
        known = self._consumers.get(consumer)
        if known is not None:
            known.finished += count
            # A quarter of the window at a time: few frames, and the broker never runs dry.
            owed = known.finished + known.window - known.granted
            if owed > 0 and owed >= known.window // 4:
                self._due_credit[consumer] = None

    def ping(self) -> None:
        """Sends a PING; the answer shows in the bytes that come, no event does."""
        self._send(codec.encode(commands.Ping()))

    def close(self) -> None:
        """Says GOODBYE."""
        self.gather()
        self._send(codec.encode(commands.Goodbye()))

    def gather(self) -> None:
        """Ends what is gathering: it has its deadline from now on, whether it can be sent or not."""
        if self._publishes:
            publishes, self._publishes = self._publishes, {}
            for publish in publishes.values():
                self._send_publish(publish)
        if self._settles:
            settles, self._settles, self._extending = self._settles, {}, None
            for settle in settles.values():
                self._send_settle(settle)
        if self._awaiting is not None:
            self._send_awaiting(self._awaiting)
        if self._due_credit:
            self._send_credit()

    @property
    def has_more_to_say(self) -> bool:
        """Whether `data_to_send` has any."""
        return bool(self._out or self._publishes or self._settles or self._awaiting or self._due_credit)

    def data_to_send(self) -> list[bytes]:
        """The bytes to write now, in order."""
        self.gather()
        out, self._out = self._out, []
        return out

    # Inside.

    def _send_credit(self) -> None:
        for number in self._due_credit:
            consumer = self._consumers.get(number)
            if consumer is not None:
                consumer.granted = consumer.finished + consumer.window
                self._send(codec.encode(commands.Credit(number, consumer.granted)))
        self._due_credit.clear()

    def _next_number(self) -> int:
        self._number = self._number % _REQUEST_MAX + 1
        return self._number

    def _send(self, frame: bytes) -> None:
        if self.is_live:
            self._out.append(frame)

    def _await(self, number: int, pending: Pending, deadline: float) -> None:
        self._drop_answered()  # else the deadlines of all that was answered in time would pile up until they pass
        self._unanswered[number] = pending
        heappush(self._deadlines, (deadline, number))

    def _drop_answered(self) -> None:
        while self._deadlines and self._deadlines[0][1] not in self._unanswered:
            heappop(self._deadlines)

    def _send_publish(self, publish: Publish) -> None:
        lengths, block = pack_sizes(publish.sizes), b"".join(publish.pieces)
        publish.pieces, publish.sizes = [], []
        self._send_block(publish, lengths, block)

    def _send_block(self, publish: Publish, lengths: bytes, block: bytes) -> None:
        number = self._next_number()
        if self._sequenced:
            publish.sequence = self._sequence.next()
        answered = self._sequence.answered
        envelope, more = publish.envelope.fields, publish.envelope[6:]
        command = commands.Publish(
            number, publish.queue, lengths, *envelope, publish.divisible, publish.sequence, answered, *more
        )
        frame = codec.encode_pieces(command, block)
        if publish.sequence:
            publish.frame = frame
        if self.is_live:
            self._out += frame
        self._await(number, publish, publish.deadline)

    def _send_settle(self, settle: Settle) -> None:
        number = self._next_number()
        command = commands.Settle(
            number,
            settle.queue,
            settle.verb,
            settle.epoch,
            tuple([(first, count, attempt) for first, count, attempt in settle.rows]),
            settle.duration_ms,
            settle.text,
            progress=settle.progress,
            results=pack_sizes(list(map(len, settle.results))) if settle.results else b"",
            block=b"".join(settle.results),
        )
        settle.command, settle.is_sent = command, self.is_live
        self._send(codec.encode(command))
        self._await(number, settle, settle.deadline)

    def _send_awaiting(self, awaiting: Awaiting) -> None:
        self._awaiting = None
        count = len(awaiting.awaited)
        if self._number + count > _REQUEST_MAX:
            self._number = 0
        start = self._number + 1
        self._send(codec.encode(commands.Await(start, awaiting.queue, awaiting.first, count, awaiting.wait_ms)))
        for awaited in awaiting.awaited:
            awaited.number = self._next_number()
            if awaited.waiter is not None:
                self._await(awaited.number, awaited, awaiting.deadline)
