"""Bombs: few bytes that ask for much memory, before login and after it, at a broker in a process of its own.

Its memory is what the kernel counts, at its highest while the bomb went off. Sizes are those of the issue trackers that
each kind comes from: claimed lengths (CVE-2026-21452), counts (GHSA-qjvr-435c-5fjh), zero-width elements
(CVE-2026-66079), sums that nobody adds up (CVE-2026-67414), answers that nobody reads (CVE-2025-21605).
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import msgpack
import pytest

from serving import DEADLINE_S, Served
from wherry.model import commands
from wherry.model.fields import HEADER_BYTES_MAX
from wherry.wire import codec
from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, PREFIX_BYTES, FrameReader, frame_head
from wherry.wire.messages import pack_sizes

HELLO = codec.encode(commands.Hello("wherry", 1, 1, "", "bomb", 0))
MIB = 1 << 20
GROWTH_BYTES_MAX = 24 * MIB
"""What ten bombs may take at the most; each of them asks for 100 MiB to many GiB."""
UNFINISHED_BYTES_MAX = 32 * MIB
HALF_SENT = 1000


class Victim(Served):
    """A broker, and what its memory comes to."""

    def memory_bytes(self, name: str = "VmRSS") -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")))

    def forget_peak(self) -> int:
        """Has the kernel begin anew with the highest; returns what is held now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", "ascii")
        return self.memory_bytes()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)

    def answers(self) -> bool:
        """Whether it serves: a client comes in and is answered."""
        with self.connect() as client:
            client.sendall(HELLO + codec.encode(commands.Ping(1)))
            return len(heard(client, 2)) == 2


def heard(client: socket.socket, count: int = 1 << 30) -> list[object]:
    """What a client is told, `count` messages or until it is closed."""
    reader, said = FrameReader(1 << 30), []
    with contextlib.suppress(ConnectionError):
        while len(said) < count and (data := client.recv(65_536)):
            said += [codec.decode(frame) for frame in reader.feed(data)]
    return said


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("victim")
    with Victim(folder, WHERRY_UNFINISHED_BYTES_MAX=str(UNFINISHED_BYTES_MAX), WHERRY_LOG_LEVEL="warning") as served:
        assert served.answers()
        yield served


def filled(data: bytes, *, before_login: bool) -> bytes:
    """The header made as long as it may be."""
    size = (FIRST_FRAME_BYTES_MAX - PREFIX_BYTES) if before_login else HEADER_BYTES_MAX
    return (data * (size // len(data) + 1))[:size]


HEADERS = {
    "nested arrays that claim 5,000": b"\xdc\x13\x88",
    "nested arrays that claim 4 G": b"\xdd\xff\xff\xff\xff",
    "nested maps that claim 64": b"\xde\x00\x40\xa1k",
    "nested maps that claim 4 G": b"\xdf\xff\xff\xff\xff\xa1k",
    "deep nesting": b"\x91",
    "empty maps": b"\x80",
    "empty arrays": b"\x90",
    "nils": b"\xc0",
    "a bin that claims 4 G": b"\x91\xc6\xff\xff\xff\xff",
    "a str that claims 4 G": b"\x91\xdb\xff\xff\xff\xff",
    "an ext that claims 4 G": b"\x91\xc9\xff\xff\xff\xff\x01",
    "arrays of empty maps": b"\xdc\x00\x40" + b"\x80" * 64,
    "one array of empty maps": b"\xdc\x13\x88" + b"\x80" * 5000,
    "the same key again": b"\xde\x00\x40" + b"\xa1k\x80" * 64,
}


@pytest.mark.parametrize("before_login", [True, False], ids=["before login", "after login"])
@pytest.mark.parametrize("name", HEADERS)
def test_headers(victim, name, before_login):
    header = filled(HEADERS[name], before_login=before_login)
    before = victim.forget_peak()
    for opcode in (0x01, 0x02, 0x10, 0x11, 0x30, 0x36, 0x95, 0xA0, 0xE0, 0xFF):
        with victim.connect() as client:
            client.sendall((b"" if before_login else HELLO) + frame_head(opcode, header, 0))
            said = heard(client)
            assert type(said[-1]) is commands.Goodbye
    grown = victim.memory_bytes("VmHWM") - before
    assert grown < GROWTH_BYTES_MAX, f"{grown / MIB:.1f} MiB"
    assert victim.answers()


@pytest.mark.parametrize("before_login", [True, False], ids=["before login", "after login"])
def test_lengths_that_are_claimed(victim, before_login):
    """A hundred at a time that announce the longest frame there is, and send nothing of it."""
    size = FIRST_FRAME_BYTES_MAX if before_login else 1 << 24
    head = (size - 4).to_bytes(4, "big") + bytes.fromhex("1000000000000040")
    before = victim.forget_peak()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(victim.connect())
            client.sendall((b"" if before_login else HELLO) + head)
            if not before_login:
                heard(client, 1)
        assert victim.answers()
        assert victim.memory_bytes("VmHWM") - before < GROWTH_BYTES_MAX


def test_frames_that_are_whole_but_for_their_end(victim):
    """Thirty clients send 8 MiB each of a frame of 16 MiB; together they may hold no more than is set."""
    head = frame_head(0x10, msgpack.packb([1, "q", pack_sizes([16 * MIB - 200_000])]), 16 * MIB - 200_000)
    before = victim.forget_peak()
    closed = 0
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(victim.connect())
            client.sendall(HELLO + head)
            heard(client, 1)
            try:
                for _ in range(8):
                    client.sendall(bytes(MIB))
            except ConnectionError:
                closed += 1
        grown = victim.memory_bytes("VmHWM") - before
        assert victim.answers()
    assert closed >= 20
    assert grown < UNFINISHED_BYTES_MAX + GROWTH_BYTES_MAX, f"{grown / MIB:.1f} MiB"


def test_handshakes_half_sent(victim):
    before = victim.forget_peak()
    hello = codec.encode(commands.Hello("wherry", 1, 1, "x" * 1000, "bomb", 0))
    with contextlib.ExitStack() as stack:
        for number in range(HALF_SENT):
            stack.enter_context(victim.connect()).sendall(hello[: number % (len(hello) - 1)])
        assert victim.answers()
        grown = victim.memory_bytes("VmHWM") - before
    assert grown < HALF_SENT * 8192 + MIB, f"{grown / HALF_SENT:.0f} bytes each"


def test_bad_requests_before_login_whose_answers_nobody_reads(victim):
    before = victim.forget_peak()
    flood = codec.encode(commands.Info(1, "q")) * 10_000
    for _ in range(20):
        with victim.connect() as client, contextlib.suppress(ConnectionError):
            for _ in range(10):
                client.sendall(flood)
    assert victim.memory_bytes("VmHWM") - before < GROWTH_BYTES_MAX
    assert victim.answers()


REQUESTS = {
    "lengths that claim 40 TB": commands.Publish(1, "q", pack_sizes([(1 << 32) - 1] * 10_000), block=b"x"),
    "the most messages of nothing": commands.Publish(1, "q", pack_sizes([0] * 10_000), block=b""),
    "the most rows of stale deliveries": commands.Settle(1, "q", 0, 1, tuple((n, 1, 1) for n in range(5000))),
    "the largest range": commands.Settle(1, "q", 0, 1, (((1 << 64) - 1, 10_000, 1),)),
    "a purge of 5,000 states": commands.Purge(1, "q", ("ready",) * 5000),
    "options of long names": commands.Declare(1, "q", {f"{n:04d}" * 200: n for n in range(64)}),
    "options of long values": commands.Declare(1, "q", {"overflow": "x" * 60_000}),
    "an option that is an array": commands.Declare(1, "q", {"max_messages": (1,) * 5000}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(victim, name):
    frame = codec.encode(REQUESTS[name])
    before = victim.forget_peak()
    with victim.connect() as client:
        client.sendall(HELLO + frame * 10 + codec.encode(commands.Purge(2, "q")))
        heard(client, 12)
    grown = victim.memory_bytes("VmHWM") - before
    assert grown < GROWTH_BYTES_MAX, f"{grown / MIB:.1f} MiB"
    assert victim.answers()
