"""What run.py prints: a table for each durability level, wherry's figures beside each peer's, and why some lack."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from catalogue import LEVELS, PEERS
from idle import LIMIT_BYTES
from measuring import BIG, BIGGER, SINGLE, STEADY, STEADY_PER_S

OURS = "wherry"
BACKLOG, IDLE = "backlog", "idle"
RELAY, DISK = "byte relay", "write + fdatasync"
RELAY_SHARE_MIN = 0.7
ALLOCATED_WORTH_TELLING = 1.2
KEPT_UP = 0.9


@dataclass(frozen=True)
class Column:
    """One kind of figure.

    Attributes:
        load: what it was measured by.
        figure: its name there.
        title: stands above it; two lines.
        digits: after the point.
        more_is_better: or less.
    """

    load: str
    figure: str
    title: tuple[str, str]
    digits: int = 0
    more_is_better: bool = False


_COLUMNS = (
    Column(BIG, "msg/s", (BIG, "msg/s"), more_is_better=True),
    Column(BIG, "server us", ("server", "us/msg"), 2),
    Column(BIG, "client us", ("client", "us/msg"), 2),
    Column(SINGLE, "msg/s", ("single", "msg/s"), more_is_better=True),
    Column(SINGLE, "server us", ("single", "server us"), 1),
    Column(STEADY, "p50_ms", ("p50", "ms"), 2),
    Column(STEADY, "p99_ms", ("p99", "ms"), 2),
    Column(BACKLOG, "RSS B", ("RSS", "B/msg")),
)
_KEPT = (
    Column(BACKLOG, "recovery s", ("recovery", "s"), 2),
    Column(BACKLOG, "disk B", ("disk", "B/msg")),
)
_OPEN = (Column(IDLE, "connection B", ("idle", "B/conn")),)
LEGEND = (
    f"{BIG}: batches of 100 messages, 1,000 in flight, every one confirmed and settled;",
    "then the CPU time of the server, and of producer and consumer together.",
    "single: messages of 100 B from 1,000 coroutines, one publish each; then the server's CPU time.",
    "p50, p99: from publish to consumer, at 1,000 messages of 100 B a second.",
    "RSS, disk: for each message of a backlog of {hoard:,} messages of 100 B; in brackets what is allocated on the",
    "disk where that is much more: wherry allocates what the settles of all that is stored will need.",
    "recovery: from the start after `kill -9` with that backlog until a consumer has the first message.",
    "idle: the server's memory for each of 10,000 connections.",
    "+-: half of (largest - smallest) / median over the rounds.",
)


def columns(level: str) -> tuple[Column, ...]:
    """The columns of a level's table."""
    return _COLUMNS + (_OPEN if level == "memory" else _KEPT)


class Book:
    """All figures of a run, and why others could not be had.

    Args:
        hoard: how many messages a whole backlog has.
    """

    def __init__(self, hoard: int) -> None:
        self.hoard = hoard
        self._figures: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
        self._reasons: dict[tuple[str, str, str], str] = {}

    def add(self, level: str, peer: str, load: str, figures: dict[str, float]) -> None:
        """One round's figures of a load."""
        for name, figure in figures.items():
            self._figures[level, peer, load, name].append(figure)

    def fail(self, level: str, peer: str, load: str, why: str) -> None:
        """There are none of this load."""
        self._reasons[level, peer, load] = why

    def failed(self, level: str, peer: str, load: str) -> str:
        """Why there are none of this load; "" when that is not known."""
        return self._reasons.get((level, peer, load), "")

    def figure(self, level: str, peer: str, load: str, name: str) -> float | None:
        """The median over the rounds."""
        found = self._figures.get((level, peer, load, name))
        return median(found) if found else None

    def spread(self, level: str, peer: str, load: str, name: str) -> float:
        """Half of what the rounds differ by, as a part of their median."""
        found = self._figures[level, peer, load, name]
        return (max(found) - min(found)) / median(found) / 2

    def rows(self) -> dict[str, dict[str, float]]:
        """Everything, for the results file."""
        result: dict[str, dict[str, float]] = defaultdict(dict)
        for (level, peer, load, name), found in self._figures.items():
            result[f"{peer}, {level}"][f"{name}, {load}"] = median(found)
        return dict(result)


class Notes:
    """Footnotes, each text once."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """What stands in a cell to point to this text."""
        if text not in self._texts:
            self._texts.append(text)
        return f"[{chr(ord('a') + self._texts.index(text))}]"

    def lines(self) -> list[str]:
        """All texts."""
        return [f"{self.mark(text)} {text}" for text in self._texts]


def layout(lines: list[list[str]], heads: int, *, markdown: bool) -> list[str]:
    """Cells as a table, the first `heads` lines of which are its head."""
    if markdown:
        head = [" ".join(part for part in cell if part) for cell in zip(*lines[:heads], strict=True)]
        rule = ["---", *(["--:"] * (len(head) - 1))]
        return ["| " + " | ".join(line) + " |" for line in [head, rule, *lines[heads:]]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]


def heads(level: str) -> list[list[str]]:
    """The head of a level's table."""
    return [["", *(column.title[line] for column in columns(level))] for line in (0, 1)]


def cell(book: Book, level: str, peer: str, column: Column, notes: Notes) -> str:
    """One figure, or the mark of the note that says why there is none."""
    value, why = book.figure(level, peer, column.load, column.figure), book.failed(level, peer, column.load)
    if value is None:
        return notes.mark(why or "not measured in this run")
    return shown(book, level, peer, column, value, notes) + (notes.mark(f"not in all rounds: {why}") if why else "")


def shown(book: Book, level: str, peer: str, column: Column, value: float, notes: Notes) -> str:
    """A figure, with what has to be told of it."""
    text = f"{value:,.{column.digits}f}"
    if column.load == BIG and column.more_is_better:
        return f"{text} +-{book.spread(level, peer, column.load, column.figure):.0%}"
    if column.load == STEADY:
        return text + late(book, level, peer, notes)
    hoarded = book.figure(level, peer, BACKLOG, "hoarded")
    shorter = column.load == BACKLOG and hoarded is not None and hoarded < book.hoard
    if column.figure == "disk B":
        allocated = book.figure(level, peer, BACKLOG, "allocated B") or 0.0
        text += f" ({allocated:,.0f})" if allocated > ALLOCATED_WORTH_TELLING * value else ""
    return f"~{text}" if shorter else text


def late(book: Book, level: str, peer: str, notes: Notes) -> str:
    """The mark of a peer that cannot do as much as it is given; "" for others."""
    rate = book.figure(level, peer, STEADY, "msg/s") or 0.0
    return "" if rate > KEPT_UP * STEADY_PER_S else notes.mark(f"it cannot keep up, and did {rate:,.0f} a second")


def shorter_backlogs(book: Book, level: str, names: list[str]) -> list[str]:
    """The line that tells what `~` means in a level's table."""
    counts = {name: book.figure(level, name, BACKLOG, "hoarded") or book.hoard for name in names}
    shorter = [f"{name} {count:,.0f}" for name, count in counts.items() if count < book.hoard]
    return [f"~ with a shorter backlog, and scaled: {', '.join(shorter)}", ""] if shorter else []


def table(book: Book, level: str, names: list[str], notes: Notes, *, markdown: bool) -> list[str]:
    """The figures of a level."""
    rows = [[name, *(cell(book, level, name, column, notes) for column in columns(level))] for name in names]
    return layout(heads(level) + rows, 2, markdown=markdown)


def better(book: Book, level: str, peer: str, column: Column) -> float | None:
    """How many times better wherry's figure is; below 1 it is worse."""
    ours = book.figure(level, OURS, column.load, column.figure)
    theirs = book.figure(level, peer, column.load, column.figure)
    if not ours or not theirs or min(ours, theirs) <= 0:
        return None
    return ours / theirs if column.more_is_better else theirs / ours


def times(ratio: float | None) -> str:
    """A ratio, with two digits that count."""
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"


def ratios(book: Book, level: str, names: list[str], *, markdown: bool) -> list[str]:
    """How many times better wherry is."""
    rows = [[name, *(times(better(book, level, name, column)) for column in columns(level))] for name in names]
    return layout(heads(level) + rows, 2, markdown=markdown)


def floor_lines(book: Book, *, markdown: bool) -> list[str]:
    """How far from what the machine can do at all."""

    def line(title: str, level: str, load: str, figure: str, base: tuple[str, str], digits: int) -> list[str]:
        ours, limit = book.figure(level, OURS, load, figure), book.figure("floor", base[0], base[1], figure)
        if ours is None or limit is None:
            return [title, "-", "-", "-"]
        return [title, f"{ours:,.{digits}f}", f"{limit:,.{digits}f} ({base[0]})", f"{ours / limit:.2f}"]

    relayed, disk = (RELAY, BIG), (DISK, BIG)
    lines = [
        ["", "wherry", "the floor", "ratio"],
        line(f"{BIG}, memory, msg/s", "memory", BIG, "msg/s", relayed, 0),
        line(f"{BIGGER}, memory, msg/s", "memory", BIGGER, "msg/s", (RELAY, BIGGER), 0),
        line(f"{BIG}, synced, msg/s", "synced", BIG, "msg/s", disk, 0),
        line(f"{STEADY}, memory, p50 ms", "memory", STEADY, "p50_ms", (RELAY, STEADY), 3),
        line(f"{STEADY}, memory, p99 ms", "memory", STEADY, "p99_ms", (RELAY, STEADY), 3),
    ]
    return layout(lines, 1, markdown=markdown)


_TIMES = {"RabbitMQ": 10.0, "NATS JetStream": 10.0, "beanstalkd": 10.0, "Valkey streams": 5.0, "Valkey lists": 1.0}


def wanted(peer: str, column: Column) -> float:
    """How many times better than a peer wherry is to be; 0 for nothing."""
    if column.load == BIG and column.more_is_better:
        return _TIMES.get(peer, 1.0)
    if column.load == BIG and column.figure == "server us":
        return 4.0 if PEERS[peer].settles else 0.0
    if column.load == SINGLE:
        return 3.0 if column.more_is_better else 0.0
    return 1.0 if column.figure in {"p50_ms", "p99_ms", "RSS B", "recovery s"} else 0.0


def shortfalls(book: Book, chosen: dict[str, list[str]]) -> list[str]:
    """Where wherry is short of what it is to reach."""
    short = []
    for level, names in chosen.items():
        for name in names:
            for column in columns(level):
                reached, target = better(book, level, name, column), wanted(name, column)
                if name != OURS and reached is not None and reached < target:
                    what = f"{level}, {column.load}, {column.figure}"
                    short.append(f"{what}: {times(reached)} times as good as {name}, not {target:.0f} times")
    ours = book.figure("memory", OURS, BIGGER, "msg/s")
    relayed = book.figure("floor", RELAY, BIGGER, "msg/s")
    if ours and relayed and ours / relayed < RELAY_SHARE_MIN:
        short.append(f"memory, {BIGGER}: {ours / relayed:.0%} of a byte relay, not {RELAY_SHARE_MIN:.0%}")
    idle = book.figure("memory", OURS, IDLE, "connection B")
    if idle and idle > LIMIT_BYTES:
        short.append(f"an idle connection takes {idle:,.0f} B, not {LIMIT_BYTES:,}")
    return short


def settings(names: list[str]) -> list[str]:
    """How each peer is used, and why."""
    lines = []
    for name in names:
        peer = PEERS[name]
        lines.append(f"- {name}: {peer.argument}.")
        lines += [f"  - {level}: {text}." for level, text in peer.levels.items()]
    return lines


def whole(book: Book, chosen: dict[str, list[str]], versions: dict[str, str], *, markdown: bool) -> str:
    """The report.

    Args:
        book: the figures.
        chosen: the peers of each level.
        versions: of the peers and their clients.
        markdown: for a document rather than for a terminal.
    """
    lines, notes = [], Notes()
    bold = "**" if markdown else ""
    for level, names in chosen.items():
        lines += [f"{bold}{level}{bold}: {LEVELS[level]}", ""]
        lines += [*table(book, level, names, notes, markdown=markdown), ""]
        lines += shorter_backlogs(book, level, names)
    told = [line.format(hoard=book.hoard) for line in LEGEND] + notes.lines()
    lines += [*(f"- {line}" if markdown else line for line in told), ""]
    for level, names in chosen.items():
        others = [name for name in names if name != OURS]
        lines += [f"{bold}{level}{bold}: how many times better wherry is; below 1 it is worse", ""]
        lines += [*ratios(book, level, others, markdown=markdown), ""]
    lines += ["how far from the floor:", "", *floor_lines(book, markdown=markdown), ""]
    short = shortfalls(book, chosen)
    lines += ["short of its targets:", "", *(f"- {line}" for line in short or ["nowhere"]), ""]
    used = list(dict.fromkeys(name for names in chosen.values() for name in names))
    lines += ["how each is used:", "", *settings(used), ""]
    return "\n".join([*lines, "versions: " + ", ".join(f"{name} {text}" for name, text in versions.items())])
