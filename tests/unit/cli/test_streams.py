"""Standard input and output, on real pipes and files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select

import pytest

from wherry_broker.cli import streams
from wherry_broker.cli.root import Failure
from wherry_broker.cli.streams import Input, Output


class Pipe:
    """A pipe with a reader that takes what it is told to, and what its writer is told."""

    def __init__(self, patience_s: float | None = None) -> None:
        self.reader, self.writer = os.pipe()
        self.stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ends: list[OSError | None] = []
        self.output = Output(self.writer, self.stop, self.ends.append, patience_s)

    def take(self) -> bytes:
        return os.read(self.reader, 1 << 20)

    async def turn(self) -> None:
        """Lets the writer do all that it can do now."""
        for _ in range(20):
            await asyncio.sleep(0)

    def hang_up(self) -> None:
        os.close(self.reader)
        self.reader = -1

    def close(self) -> None:
        self.output.close()
        os.close(self.writer)
        if self.reader >= 0:
            self.hang_up()


@pytest.fixture
async def pipe():
    with contextlib.closing(Pipe()) as pipe:
        yield pipe


async def test_messages_go_one_by_one_as_the_reader_takes_them(pipe):
    writing = asyncio.ensure_future(pipe.output.write([b"a\n", b"b\n", b"c\n"]))
    for expected in (b"a\n", b"b\n", b"c\n"):
        await pipe.turn()
        assert not writing.done()
        assert pipe.take() == expected
    assert await writing == 3


async def test_later_ones_go_together(pipe, monkeypatch):
    monkeypatch.setattr(pipe.output, "_one_by_one", 1)
    pieces = [b"x" * 1000] * 6
    writing = asyncio.ensure_future(pipe.output.write(pieces))
    taken = []
    while not writing.done():
        await pipe.turn()
        if select.select([pipe.reader], [], [], 0)[0]:
            taken.append(len(pipe.take()))
    assert taken == [1000, 4000, 1000]
    assert await writing == 6


async def test_what_was_not_taken_is_not_counted(pipe):
    writing = asyncio.ensure_future(pipe.output.write([b"a\n", b"b\n", b"c\n"]))
    await pipe.turn()
    pipe.take()
    await pipe.turn()
    pipe.hang_up()
    assert await writing == 1
    assert pipe.ends[0] is None


async def test_a_piece_longer_than_the_pipe_is_counted_once_all_of_it_was_taken(pipe):
    writing = asyncio.ensure_future(pipe.output.write([b"x" * 10_000, b"y"]))
    seen = b""
    while len(seen) < 10_000:
        await pipe.turn()
        seen += pipe.take()
    await pipe.turn()
    pipe.hang_up()
    assert (seen, await writing) == (b"x" * 10_000, 1)


async def test_cut_short_it_writes_what_is_begun_to_its_end(pipe):
    writing = asyncio.ensure_future(pipe.output.write([b"a\n", b"x" * 10_000, b"y", b"z"]))
    await pipe.turn()
    assert pipe.take() == b"a\n"
    await pipe.turn()
    assert pipe.output.cut() == 2
    seen = b""
    while len(seen) < 10_000:
        seen += pipe.take()
        await pipe.turn()
    assert (await writing, seen, pipe.ends) == (2, b"x" * 10_000, [])


async def test_cut_short_with_nothing_begun_it_ends(pipe):
    os.write(pipe.writer, b"full" * 1024)
    writing = asyncio.ensure_future(pipe.output.write([b"a\n", b"b\n"]))
    await pipe.turn()
    assert (pipe.output.cut(), pipe.ends) == (0, [None])
    pipe.take()
    assert await writing == 0
    assert select.select([pipe.reader], [], [], 0)[0] == []


async def test_stopping_ends_the_waiting(pipe):
    writing = asyncio.ensure_future(pipe.output.write([b"a\n", b"b\n"]))
    await pipe.turn()
    pipe.stop.set_result(15)
    assert await writing == 0


async def test_a_reader_that_takes_nothing_for_too_long_gets_all():
    with contextlib.closing(Pipe(patience_s=0.0)) as pipe:
        assert await pipe.output.write([b"a\n"] * 5000) == 5000
        assert pipe.take() == b"a\n" * 5000


async def test_a_reader_that_goes_while_nothing_is_written_is_noticed(pipe):
    pipe.output.watch()
    pipe.hang_up()
    await pipe.turn()
    assert pipe.ends == [None]


async def test_what_stood_in_the_pipe_before_does_no_harm():
    reader, writer = os.pipe()
    os.write(writer, b"x" * 5000)
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    output = Output(writer, stop, lambda _: None, None)
    assert await output.write([b"a\n"]) == 1
    output.close()
    os.close(writer)
    assert os.read(reader, 6000) == b"x" * 5000 + b"a\n"
    os.close(reader)


async def test_a_disk_that_is_full_is_told(tmp_path):
    ends: list[OSError | None] = []
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 (a device: nothing waits)
        assert await Output(full.fileno(), stop, ends.append, None).write([b"a\n"]) == 0
    assert "No space left" in str(ends)


# Input.


async def pieces_of(data: bytes, separator: bytes = b"\n") -> list[bytes]:
    reader, writer = os.pipe()
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    found: list[bytes] = []

    async def collect() -> None:
        async for pieces in Input(reader, stop).pieces(separator):
            found.extend(pieces)

    collecting = asyncio.ensure_future(collect())
    for index in range(0, len(data), 3):
        os.write(writer, data[index : index + 3])
        for _ in range(5):
            await asyncio.sleep(0)
    os.close(writer)
    try:
        await collecting
    finally:
        os.close(reader)
    return found


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"one\n\nthree", [b"one", b"", b"three"]),
        (b"a line longer than a read\nand another\n", [b"a line longer than a read", b"and another"]),
    ],
)
async def test_pieces_whatever_comes_together(data, pieces):
    assert await pieces_of(data) == pieces


async def test_a_piece_that_no_message_can_hold_is_refused(monkeypatch):
    monkeypatch.setattr(streams, "BODY_BYTES_MAX", 5)
    assert await pieces_of(b"12345\n") == [b"12345"]
    with pytest.raises(Failure, match="longer than 5 bytes"):
        await pieces_of(b"1234567890")
