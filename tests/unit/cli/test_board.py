"""What `wherry top` shows."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console

from wherry import Attached, BrokerInfo, QueueCounts, QueueInfo
from wherry_broker.cli import board

BROKER = BrokerInfo(1_572_864, 1_073_741_824, 3, "synced")


def queue(name, ready=0, leased=0, dead=0, rates=(0.0, 0.0), age=0.0, attached=(), **options):
    return QueueInfo(
        *(name, ready, 0, leased, dead, 10, len(attached), 1, 0, {}),
        *(*rates, age, {"durability": "synced", "paused": False, **options}),
        attached=tuple(Attached(*each) for each in attached),
    )


def view(*queues, broker=BROKER):
    return board.View.of("localhost:7117", broker, queues, len(queues))


VIEW = view(
    queue("mail", ready=1200, age=75, attached=[("worker/1", 3, 7), ("worker/2", 0, 10), ("worker/1", 1, 2)]),
    queue("pages", leased=1, rates=(10.0, 2.5), attached=[("worker/2", 1, 4)]),
    queue("old", dead=2, paused=True),
)


def names(shown):
    return [each.name for each in shown.queues]


def test_the_busiest_come_first_then_the_fullest_then_the_first_by_name():
    queues = [queue("c"), queue("b", ready=1), queue("a"), queue("x", rates=(1, 0)), queue("y", rates=(1, 1))]
    assert names(view(*queues)) == ["y", "x", "b", "a", "c"]


def test_a_client_is_one_whatever_it_consumes():
    assert VIEW.clients == [
        board.Client("worker/1", 4, 9, ("mail",)),
        board.Client("worker/2", 1, 14, ("pages", "mail")),
    ]


def test_as_text():
    assert board.lines(VIEW) == [
        "wherry at localhost:7117  3 queues  3 clients  memory 1.5 MiB of 1.0 GiB (0%)  durability synced",
        "",
        "QUEUE         READY  DELAYED  LEASED  DEAD  IN/S  OUT/S  OLDEST  CONSUMERS  DURABILITY",
        "pages             0        0       1     0  10.0    2.5                  1  synced",
        "mail           1200        0       0     0   0.0    0.0  1m 15s          3  synced",
        "old (paused)      0        0       0     2   0.0    0.0                  0  synced",
        "",
        "CLIENT    LEASED  CREDIT  QUEUES",
        "worker/1       4       9  mail",
        "worker/2       1      14  pages, mail",
    ]


def test_an_empty_broker_of_an_older_version():
    assert board.lines(view(broker=BrokerInfo(0, 0, 0, ""))) == [
        "wherry at localhost:7117  0 queues",
        "",
        "  ".join(each.upper() for each in board.QUEUE_HEAD),
    ]


def test_memory_without_a_limit():
    assert board.headline(view(broker=BrokerInfo(10, 0, 1, "memory"))).endswith(
        "1 client  memory 10 B  durability memory"
    )


def test_for_json():
    told = board.fields(VIEW)
    assert (told["memory_bytes"], told["queues_total"], told["clients"]) == (1_572_864, 3, 3)
    assert told["consumers"][0] == {"name": "worker/1", "leased": 4, "credit": 9, "queues": ("mail",)}
    assert told["queues"][0] == {
        "name": "pages",
        "ready": 0,
        "delayed": 0,
        "leased": 1,
        "dead": 0,
        "bytes": 10,
        "consumers": 1,
        "publish_rate": 10.0,
        "settle_rate": 2.5,
        "oldest_age": 0.0,
        "durability": "synced",
        "paused": False,
    }


def test_a_broker_with_very_many_queues_is_asked_for_those_that_matter(monkeypatch):
    monkeypatch.setattr(board, "QUEUES_MAX", 3)
    counts = [QueueCounts(f"q{n}", n, 0, 0, 0, 0, 0) for n in range(9)] + [QueueCounts("busy", 0, 0, 0, 0, 0, 1)]
    assert board.chosen(counts, None) == ["busy", "q8", "q7"]
    assert board.chosen(counts, view(queue("q0", rates=(0.0, 0.1)))) == ["q0", "busy", "q8"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1.5 * 2**20, "1.5 MiB"),
        (2**40, "1.0 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_a_size(size, text):
    assert board.size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, ""), (0.2, "0s"), (59.4, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (3600, "1h 0m"), (90_000, "1d 1h")],
)
def test_an_age(seconds, text):
    assert board.age_text(seconds) == text


# On a screen.


def shown(what, width, height):
    out = io.StringIO()
    Console(file=out, width=width, height=height, color_system=None).print(board.screen(what, width, height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_wide_screen_shows_what_text_does():
    assert shown(VIEW, 120, 24) == [line.replace(" 1200 ", "1,200 ") for line in board.lines(VIEW)]


def test_a_narrow_screen_leaves_columns_out_and_cuts_no_number():
    assert shown(VIEW, 40, 24) == [
        "wherry at localhost:7117  3 queues  3 c…",
        "",
        "QUEUE         READY  LEASED  DEAD",
        "pages             0       1     0",
        "mail          1,200       0     0",
        "old (paused)      0       0     2",
        "",
        "CLIENT    LEASED  CREDIT  QUEUES",
        "worker/1       4       9  mail",
        "worker/2       1      14  pages, mail",
    ]


def test_a_long_name_gives_way():
    (_, _, head, row) = shown(view(queue("a" * 50, ready=7)), 60, 24)
    assert head == "QUEUE             READY  LEASED  DEAD  IN/S  OUT/S  OLDEST"
    assert row == "aaaaaaaaaaaaaaa…      7       0     0   0.0    0.0"


def test_a_screen_is_never_wider_or_higher_than_the_terminal():
    queues = [queue(f"q{n}", ready=10**n, attached=[(f"worker/{n}", n, 0)]) for n in range(12)]
    for width, height in itertools.product((20, 33, 61, 80, 130), (board.AROUND + 1, 12, 24, 40)):
        lines = shown(view(*queues), width, height)
        assert len(lines) <= height, (width, height)
        assert max(map(len, lines)) <= width, (width, height)


@pytest.mark.parametrize(
    ("height", "queues", "clients", "shares"),
    [(35, 3, 2, (3, 2)), (35, 100, 2, (28, 2)), (35, 100, 100, (20, 10)), (35, 5, 100, (5, 25)), (4, 9, 9, (0, 0))],
)
def test_clients_get_a_third_of_the_screen_if_they_need_it(height, queues, clients, shares):
    assert board.shares(height, queues, clients) == shares


def test_what_a_name_holds_steers_no_terminal_and_is_no_style():
    (line,) = [line for line in shown(view(queue("q", attached=[("[red]\x1b[2J", 0, 1)])), 80, 24) if "red" in line]
    assert line.startswith(r"[red]\x1b[2J ")
