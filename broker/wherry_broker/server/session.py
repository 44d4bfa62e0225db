"""A session: the broker's half of one conversation. Pure: frames and effects in, commands and bytes out.

Law: everything that depends on what was said before lives here; the connection around it only moves bytes. After a
violation of the protocol the session says GOODBYE, is `closing`, and takes nothing more.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, get_args

from wherry.model import commands, replies
from wherry.model.fields import HEADER_BYTES_MAX
from wherry.wire import codec
from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, PREFIX_BYTES, Frame, FrameReader
from wherry_broker.core.effects import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry_broker.core.effects import Say
    from wherry_broker.server.limits import Limits

DELIVER_SPANS_MAX = 128
DELIVER_MESSAGES_MAX = 4_096
DELIVER_BYTES_MAX = 1_048_576
DELIVER_KEY_CHARACTERS_MAX = 8_192
"""Keys are part of the header, which has a limit: at four bytes a character they take half of it, lengths a quarter."""
JOIN_BYTES_MAX = 65_536
"""A block up to this long is joined to its frame's head: copying it is cheaper than one more buffer to write."""
CONFIRMS_MAX = 1_024

_LOG_REQUESTS = frozenset({commands.Backup, commands.ReadBackup})
_REQUESTS = frozenset(get_args(commands.Request)) - _LOG_REQUESTS | {commands.Credit}
_WITH_MESSAGES = frozenset({commands.Publish, commands.PublishTopic, commands.Commit})

OPENING, OPEN, CLOSING = "opening", "open", "closing"


class Session:
    """One conversation.

    Args:
        epoch: the log's epoch, for WELCOME.
        server: the broker's name and version, for WELCOME.
        accepts: whether a token lets its bearer in.
        limits: the limits of a connection.
        scratch: a receive buffer shared by all connections of the thread.

    Attributes:
        reader: cuts received bytes into frames.
        phase: opening until HELLO has been accepted, then open, at last closing.
        name: what the client calls itself.
        producer: the id under which it numbers its publishes, and comes back; "" for none.
        owner: whom it belongs to, as its token tells.
        may_resume: whether the client may come back: not when it said goodbye, or broke the protocol.
        asked: what the client has asked of the log, which is not for the core.
        out: the bytes to write, in order; see `data_to_send`.
        reason: why the session is closing, for the log; the code of the GOODBYE and its text.
        heartbeat_ms: the interval agreed on; 0 for none.
        listens: whether the client reads all the time; one that asks for no heartbeats does not while it works.
    """

    def __init__(
        self, epoch: int, server: str, accepts: Callable[[str], bool], limits: Limits, scratch: memoryview | None = None
    ) -> None:
        self.reader = FrameReader(FIRST_FRAME_BYTES_MAX, scratch)
        self.phase = OPENING
        self.name = ""
        self.producer = ""
        self.owner = ""
        self.may_resume = True
        self.reason = ("", "")
        self.heartbeat_ms = 0
        self.listens = True
        self._epoch = epoch
        self._server = server
        self._accepts = accepts
        self._limits = limits
        self._block_bytes_max = limits.frame_bytes_max - HEADER_BYTES_MAX - PREFIX_BYTES
        self.out: list[bytes] = []
        self.asked: list[commands.Backup | commands.ReadBackup] = []

    # What comes in.

    def receive(self, frames: Iterable[Frame]) -> list[commands.Request | commands.Credit]:
        """Takes frames from the reader; afterwards, looks at the reader's failure.

        Returns:
            The commands for the core, in order.
        """
        result: list[commands.Request | commands.Credit] = []
        for frame in frames:
            if self.phase == CLOSING:
                return result
            command = self._take(frame)
            if command is not None:
                result.append(command)
        if self.reader.failure and self.phase != CLOSING:
            self.close("too_large" if self.reader.size_exceeded else "bad_frame", self.reader.failure)
        return result

    def _take(self, frame: Frame) -> commands.Request | commands.Credit | None:
        try:
            message = codec.decode(frame)
        except codec.BadFrame as error:
            self.close("bad_frame", str(error))
            return None
        except codec.BadValue as error:
            self._refuse_value(error)
            return None
        if self.phase == OPENING:
            self._open(message)
            return None
        kind = type(message)
        if kind not in _REQUESTS:
            self._answer(message)
        elif kind in _WITH_MESSAGES and len(message.block) > self._block_bytes_max:
            self._refuse_long(message)
        else:
            return message  # type: ignore[no-any-return]
        return None

    def _refuse_long(self, command: Any) -> None:
        """A DELIVER of its messages, with a longer header, might not fit into a frame."""
        text = f"a block of {len(command.block)} bytes is over the limit of {self._block_bytes_max} bytes"
        self._send(replies.Error(command.request, "too_large", text, queue=getattr(command, "queue", "")))

    def _refuse_value(self, error: codec.BadValue) -> None:
        if self.phase == OPEN and error.request:
            self._send(replies.Error(error.request, "invalid", str(error)))
        else:
            self.close("bad_frame", str(error))

    def _open(self, message: Any) -> None:
        if type(message) is not commands.Hello or message.magic != "wherry":
            self.close("bad_frame", "the first frame must be HELLO, and its first field 'wherry'")
        elif not message.version_min <= codec.VERSION <= message.version_max:
            asked = f"{message.version_min} to {message.version_max}"
            self.close("bad_frame", f"this broker speaks version {codec.VERSION}, not one of {asked}")
        elif not self._accepts(message.token):
            problem = "is wrong" if message.token else "is missing"
            self.close("unauthenticated", f"this broker asks for a token, and the one in HELLO {problem}")
        else:
            self._welcome(message)

    def _welcome(self, hello: commands.Hello) -> None:
        self.phase = OPEN
        self.name = hello.name
        self.listens = hello.heartbeat_ms > 0
        self.heartbeat_ms = min(hello.heartbeat_ms, self._limits.heartbeat_ms)
        self.producer = hello.producer
        self.owner = hashlib.sha256(hello.token.encode("utf-8", "surrogatepass")).hexdigest() if hello.token else ""
        self.reader.frame_bytes_max = self._limits.frame_bytes_max
        welcome = replies.Welcome(
            codec.VERSION,
            self._epoch,
            self.heartbeat_ms,
            self._limits.frame_bytes_max,
            self._server,
            self._limits.producer_window_ms,
            self._limits.resume_ms if hello.producer else 0,
        )
        self._send(welcome)

    def _answer(self, message: Any) -> None:
        """Answers what does not concern the core."""
        kind = type(message)
        if kind in _LOG_REQUESTS:
            self.asked.append(message)
        elif kind is commands.Ping:
            self._send(replies.Pong(message.nonce))
        elif kind is commands.Goodbye:
            self.may_resume = False
            self.end(message.code, message.text)
        elif kind is not replies.Pong:
            self.close("bad_frame", f"{kind.__name__.upper()} is not for a client to say now")

    def close(self, code: str, text: str) -> None:
        """Says GOODBYE and takes nothing more."""
        if self.phase != CLOSING:
            self.may_resume = code not in {"bad_frame", "too_large"}
            self._send(commands.Goodbye(code, text))
            self.end(code, text)

    def end(self, code: str, text: str) -> None:
        """Takes nothing more, and says nothing more either: the client knows."""
        if self.phase != CLOSING:
            self.phase, self.reason = CLOSING, (code, text)

    # What goes out.

    def say(self, says: Iterable[Say]) -> None:
        """Takes what the core has to say, in order. Neighbours of a kind are joined into one frame."""
        run: list[Any] = []
        for say in says:
            if run and type(say) is not type(run[-1]):
                self._flush_run(run)
                run = []
            run.append(say)
        if run:
            self._flush_run(run)

    def take_asked(self) -> list[commands.Backup | commands.ReadBackup]:
        """What the client has asked of the log since the last call."""
        asked, self.asked = self.asked, []
        return asked

    def data_to_send(self) -> list[bytes]:
        """The bytes to write now, in order."""
        out, self.out = self.out, []
        return out

    def _send(self, message: Any) -> None:
        self.out.append(codec.encode(message))

    def _flush_run(self, run: list[Any]) -> None:
        kind = type(run[0])
        if kind is Delivery:
            self._deliver(run)
        elif len(run) == 1:
            self._send(run[0])
        elif kind is replies.Confirm:
            self._confirm(run)
        elif kind is replies.Settled:
            self._settled(run)
        elif kind is replies.Returned:
            self._returned(run)
        else:
            for message in run:
                self._send(message)

    def _confirm(self, run: list[replies.Confirm]) -> None:
        rows: dict[str, list[Any]] = {}
        for confirm in run:
            rows.setdefault(confirm.durability, []).extend(confirm.confirms)
        for durability, confirms in rows.items():
            for start in range(0, len(confirms), CONFIRMS_MAX):
                self._send(replies.Confirm(durability, tuple(confirms[start : start + CONFIRMS_MAX])))

    def _settled(self, run: list[replies.Settled]) -> None:
        # A row with stale ranges may be long: it travels alone.
        plain = [settled.settles[0] for settled in run if not settled.settles[0][1]]
        for settled in run:
            if settled.settles[0][1]:
                self._send(settled)
        for start in range(0, len(plain), CONFIRMS_MAX):
            self._send(replies.Settled(tuple(plain[start : start + CONFIRMS_MAX])))

    def _returned(self, run: list[replies.Returned]) -> None:
        start = size = count = 0
        for stop, returned in enumerate(run):
            size += len(returned.block)
            count += returned.requests[0][1]
            if size > DELIVER_BYTES_MAX or count > CONFIRMS_MAX:
                self._send_returned(run[start:stop])
                start, size, count = stop, len(returned.block), returned.requests[0][1]
        self._send_returned(run[start:])

    def _send_returned(self, part: list[replies.Returned]) -> None:
        if part:
            rows = joined([returned.requests[0] for returned in part])
            lengths = b"".join([returned.lengths for returned in part])
            self._send(replies.Returned(rows, lengths, b"".join([returned.block for returned in part])))

    def _deliver(self, run: list[Delivery]) -> None:
        if len(run) == 1:
            self._deliver_frame(run)
            return
        by_consumer: dict[tuple[int, int], list[Delivery]] = {}
        for delivery in run:
            by_consumer.setdefault((delivery.consumer, delivery.lease_ms), []).append(delivery)
        for deliveries in by_consumer.values():
            for group in _frames_of(deliveries):
                self._deliver_frame(group)

    def _deliver_frame(self, group: list[Delivery]) -> None:
        """Says what one consumer is delivered under leases of one length."""
        (consumer, *_), (lease_ms, *_), rows, lengths, blocks = zip(*group, strict=True)
        size = sum(map(len, blocks))
        deliver = replies.Deliver(consumer, lease_ms, rows, b"".join(lengths))
        pieces = [codec.encode_head(deliver, size), *blocks]
        self.out += pieces if size > JOIN_BYTES_MAX else [b"".join(pieces)]


def joined(rows: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges (first, count) as few ones: neighbours that follow each other are one."""
    result: list[tuple[int, int]] = []
    for first, count in rows:
        if result and sum(result[-1]) == first:
            result[-1] = (result[-1][0], result[-1][1] + count)
        else:
            result.append((first, count))
    return tuple(result)


def _frames_of(deliveries: list[Delivery]) -> Iterable[list[Delivery]]:
    """Cuts a consumer's deliveries into groups that fit a frame; one that is too large alone was published so."""
    group: list[Delivery] = []
    messages = size = keys = 0
    for delivery in deliveries:
        count, key = delivery.row[1], len(delivery.row[6])
        full = messages + count > DELIVER_MESSAGES_MAX or size + len(delivery.data) > DELIVER_BYTES_MAX
        if group and (full or len(group) == DELIVER_SPANS_MAX or keys + key > DELIVER_KEY_CHARACTERS_MAX):
            yield group
            group, messages, size, keys = [], 0, 0, 0
        group.append(delivery)
        messages += count
        size += len(delivery.data)
        keys += key
    if group:
        yield group
