"""How fast are the peers, each at each durability level that it can give, on this machine and with the same work?

One server, one producer, one consumer: processes on loopback. Every publish is confirmed and every message settled, as
far as the peer knows either. Rounds are interleaved, so that what else the machine does falls on all alike; medians are
printed, with the spread of the throughput. Loads end after a time, not after a count, since peers differ by a factor of
a hundred. What cannot be measured is told with its reason, and the run goes on. catalogue.py has the settings and what
argues for them, clients/ how each is used.

    run.py [--quick] [--only NAME,NAME] [--levels memory,synced] [--markdown] [--picture docs/peers.svg] [--record]

`make bench-peers` takes about a quarter of an hour, `make bench-peers ARGS=--quick` three minutes.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from typing import TYPE_CHECKING

import floor
from catalogue import LEVELS, PEERS, versions
from idle import GREETINGS, connection_bytes
from measuring import BIG, BIGGER, STEADY, Failed, Sizes, hoard, moves
from report import BACKLOG, DISK, IDLE, OURS, RELAY, Book, whole
from servers import Missing, Server
from timed import Load, flood

from crowd import raise_open_files
from measure import RESULTS, facts, parser

if TYPE_CHECKING:
    import argparse

PROBLEMS = (Missing, Failed, RuntimeError, OSError)
QUICK = Sizes(flood_s=0.6, paced_s=0.8, hoard_s=1.5, hoard=100_000)
RELAYED_MB = 400


def options() -> argparse.Namespace:
    made = parser(
        __doc__,
        rounds="each load runs",
        quick="one short round, with a backlog of 100,000",
        only="the peers whose name contains one of these, with commas",
    )
    made.add_argument("--levels", default=",".join(LEVELS), help="the durability levels, with commas")
    made.add_argument("--folder", default="", help="where servers keep their files: the disk that is measured")
    made.add_argument("--markdown", action="store_true", help="the report as Markdown")
    made.add_argument("--picture", default="", metavar="FILE", help="draw the throughput into an SVG file")
    return made.parse_args()


class Run:
    """One run.

    Args:
        sizes: of the loads.
        book: where the figures go.
        folder: where servers keep their files.
    """

    def __init__(self, sizes: Sizes, book: Book, folder: str) -> None:
        self._sizes = sizes
        self._book = book
        self._folder = folder

    def peer(self, level: str, name: str, number: int) -> None:
        """One round of a peer at a level."""
        peer = PEERS[name]
        folder = tempfile.mkdtemp(prefix=".peers-", dir=self._folder)
        try:
            with peer.server_at(level, folder) as server:
                self._loads_of(level, name, server)
        except PROBLEMS as error:
            for load_name in (*self._loads(name, level), BACKLOG):
                self._book.fail(level, name, load_name, f"{name}: {reason(error)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if number < peer.hoards_max and not self._book.failed(level, name, BACKLOG):
            self._backlog(level, name)

    def _loads_of(self, level: str, name: str, server: Server) -> None:
        """All loads, one after the other; those after one that fails have their own try."""
        loads = {key: load for key, load in self._loads(name, level).items() if not self._book.failed(level, name, key)}
        client = PEERS[name].client_at(level)
        while loads:
            try:
                for load, figures in moves(client, server, dict(loads)):
                    self._book.add(level, name, load, figures)
                    del loads[load]
            except PROBLEMS as error:
                self._book.fail(level, name, next(iter(loads)), f"{name}: {reason(error)}")
                del loads[next(iter(loads))]

    def _loads(self, name: str, level: str) -> dict[str, Load]:
        more = {BIGGER: flood(4096, 25, self._sizes.flood_s)} if (name, level) == (OURS, "memory") else {}
        loads: dict[str, Load] = self._sizes.loads()
        return loads | more

    def _backlog(self, level: str, name: str) -> None:
        peer = PEERS[name]
        if level in peer.no_hoard:
            self._book.fail(level, name, BACKLOG, f"{name}: {peer.no_hoard[level]}")
            return
        folder = tempfile.mkdtemp(prefix=".peers-", dir=self._folder)
        try:
            self._book.add(level, name, BACKLOG, hoard(peer, level, folder, self._sizes))
        except PROBLEMS as error:
            self._book.fail(level, name, BACKLOG, f"{name}: {reason(error)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def floor(self) -> None:
        """One round of what there is without a broker."""
        relayed = floor.relayed_mb_per_s(RELAYED_MB) * 1e6
        self._book.add("floor", RELAY, BIG, {"msg/s": relayed / 1024})
        self._book.add("floor", RELAY, BIGGER, {"msg/s": relayed / 4096})
        self._book.add("floor", RELAY, STEADY, floor.relay_latency(round(1_000 * self._sizes.paced_s), 1_000))
        self._book.add("floor", DISK, BIG, {"msg/s": floor.synced_per_s(self._folder, 1.0) * 100})

    def idle(self, names: list[str]) -> None:
        """The connections that nobody uses; once, since memory varies little."""
        for name in names:
            if name not in GREETINGS:
                self._book.fail("memory", name, IDLE, "the same server as that of the streams")
                continue
            folder = tempfile.mkdtemp(prefix=".peers-", dir=self._folder)
            try:
                self._book.add("memory", name, IDLE, {"connection B": connection_bytes(name, PEERS[name], folder)})
            except PROBLEMS as error:
                self._book.fail("memory", name, IDLE, f"{name}: {reason(error)}")
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"it is not installed: {text}" if isinstance(error, Missing) else text[:300]


def chosen_peers(given: argparse.Namespace) -> dict[str, list[str]]:
    """The peers of each level."""
    parts = given.only.split(",")
    names = [name for name in PEERS if name == OURS or any(part in name for part in parts)]
    return {level: [name for name in names if level in PEERS[name].levels] for level in given.levels.split(",")}


def main() -> None:
    given = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that servers are ended too
    raise_open_files()
    sizes = QUICK if given.quick else Sizes()
    book, chosen = Book(sizes.hoard), chosen_peers(given)
    rounds = 1 if given.quick else given.rounds
    began = time.monotonic()
    run = Run(sizes, book, given.folder or str(Path.cwd()))
    for number in range(rounds):
        for level, names in chosen.items():
            for name in names:
                run.peer(level, name, number)
                print(f"{time.monotonic() - began:4.0f} s  round {number + 1}, {level}: {name}", file=sys.stderr)
        run.floor()
    if "memory" in chosen:
        run.idle(chosen["memory"])
    print(whole(book, chosen, versions(), markdown=given.markdown))
    machine = facts()
    print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['system']}; ", end="")
    took_s = time.monotonic() - began
    print(f"commit {machine['commit']}, {rounds} rounds in {took_s:.0f} s, {time.strftime('%Y-%m-%d')}")
    if given.record:
        line = {"bench": "peers", **machine, "versions": versions(), "rounds": rounds, "rows": book.rows()}
        with RESULTS.open("a") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    if given.picture:
        from picture import draw  # noqa: PLC0415 (matplotlib takes a second to import)

        draw(book, chosen, Path(given.picture))


if __name__ == "__main__":
    main()
