from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "bench" / "peers"))

import report
from catalogue import LEVELS, PEERS
from measuring import BIG, SINGLE, STEADY, Sizes

OURS = {BIG: {"msg/s": 1_000.0, "server us": 1.0, "client us": 2.0}, SINGLE: {"msg/s": 300.0, "server us": 3.0}}


def a_book(**peers: float) -> report.Book:
    """Each peer is so many times as good as wherry."""
    book = report.Book(hoard=1_000)
    for name, factor in {"wherry": 1.0, **peers}.items():
        for load, figures in OURS.items():
            told = {key: value * factor if key == "msg/s" else value / factor for key, value in figures.items()}
            book.add("memory", name, load, told)
    return book


@pytest.mark.parametrize("markdown", [True, False])
def test_no_cell_of_a_table_is_empty_and_a_reason_stands_below(markdown):
    book = a_book()
    book.fail("memory", "RabbitMQ", BIG, "RabbitMQ: it is not installed")
    text = report.whole(book, {"memory": list(PEERS)}, {}, markdown=markdown)
    assert "[a] not measured in this run" in text
    assert "RabbitMQ: it is not installed" in text
    if markdown:
        rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("|  |")]
        assert all(cell.strip() for row in rows for cell in row.split("|")[1:-1])


def test_medians_and_their_spread():
    book = report.Book(hoard=1)
    for rate in (90.0, 100.0, 130.0):
        book.add("memory", "wherry", BIG, {"msg/s": rate})
    assert book.figure("memory", "wherry", BIG, "msg/s") == 100
    assert book.spread("memory", "wherry", BIG, "msg/s") == pytest.approx(0.2)


def test_better_is_above_one_for_rates_and_for_costs_alike():
    book = a_book(RabbitMQ=0.1)
    ratios = [report.better(book, "memory", "RabbitMQ", column) for column in report.columns("memory")[:5]]
    assert ratios == [pytest.approx(10.0)] * 5


def test_a_target_that_was_missed_is_told_with_both_figures():
    book = a_book(RabbitMQ=0.2)
    short = report.shortfalls(book, {"memory": ["wherry", "RabbitMQ"]})
    assert short == ["memory, 1 KiB x 100, msg/s: 5.0 times as good as RabbitMQ, not 10 times"]
    assert report.shortfalls(a_book(RabbitMQ=0.05), {"memory": ["wherry", "RabbitMQ"]}) == []


def test_a_shorter_backlog_and_allocated_space_are_marked():
    book = report.Book(hoard=1_000)
    book.add("synced", "wherry", report.BACKLOG, {"hoarded": 500, "RSS B": 100, "disk B": 100, "allocated B": 300})
    column = next(column for column in report.columns("synced") if column.figure == "disk B")
    assert report.cell(book, "synced", "wherry", column, report.Notes()) == "~100 (300)"
    assert report.shorter_backlogs(book, "synced", ["wherry"])[0].endswith("wherry 500")


def test_a_peer_that_cannot_keep_up_is_marked():
    book, notes = report.Book(hoard=1), report.Notes()
    column = next(column for column in report.columns("synced") if column.load == STEADY)
    for peer, rate in {"wherry": 999.0, "beanstalkd": 250.0}.items():
        book.add("synced", peer, STEADY, {"msg/s": rate, "p50_ms": 1.0})
    assert report.cell(book, "synced", "wherry", column, notes) == "1.00"
    assert report.cell(book, "synced", "beanstalkd", column, notes) == "1.00[a]"
    assert notes.lines() == ["[a] it cannot keep up, and did 250 a second"]


def test_every_peer_has_an_argument_for_each_level():
    for peer in PEERS.values():
        assert peer.argument
        assert set(peer.levels) <= set(LEVELS)
        assert set(peer.no_hoard) <= set(peer.levels)
        assert all(peer.levels.values())


def test_a_load_is_paced_or_as_fast_as_it_goes():
    loads = Sizes(flood_s=1, paced_s=2).loads()
    assert (loads[STEADY].rate_per_s, loads[STEADY].count) == (1_000, 2_000)
    assert loads[SINGLE].per_call == 0
    assert loads[BIG].size == 1024
