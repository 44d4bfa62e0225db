"""What `wherry top` shows, from what the broker says of its queues. Pure: no clock, no terminal, no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wherry import BrokerInfo, QueueInfo
from wherry_broker.cli.output import aligned, counted, fields_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from wherry import QueueCounts

QUEUES_MAX = 200
"""Of how many queues more than the counts is asked for."""
QUEUE_HEAD = ("queue", "ready", "delayed", "leased", "dead", "in/s", "out/s", "oldest", "consumers", "durability")
CLIENT_HEAD = ("client", "leased", "credit", "queues")
COUNTS = ("name", "ready", "delayed", "leased", "dead", "bytes", "consumers")
SHOWN = (*COUNTS, "publish_rate", "settle_rate", "oldest_age")
"""What JSON says of a queue; its durability and whether it is paused follow."""
AROUND = 5
"""How many lines of the screen are neither a queue nor a client: two heads, two gaps and the first line."""
GAP = 2
"""How many characters are between columns."""
ELASTIC_MIN = 12
DROPPED = ("durability", "consumers", "delayed", "oldest", "in/s", "out/s", "credit", "dead")
LEFT = frozenset(("queue", "durability", "client", "queues"))
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
STEP = 1024
MINUTE, HOUR, DAY = 60, 3600, 86_400


class Client(NamedTuple):
    """Who consumes: a worker, mostly.

    Attributes:
        name: what it calls itself; "" for nothing.
        leased: how many messages it holds.
        credit: how many more it would take.
        queues: from which queues.
    """

    name: str
    leased: int
    credit: int
    queues: tuple[str, ...]


class View(NamedTuple):
    """What one refresh has found.

    Attributes:
        address: where the broker is.
        broker: the state of the broker.
        queues: the queues that are looked at, the busiest first.
        total: how many queues there are.
    """

    address: str
    broker: BrokerInfo
    queues: tuple[QueueInfo, ...]
    total: int

    @classmethod
    def of(cls, address: str, broker: BrokerInfo, queues: Iterable[QueueInfo], total: int) -> View:
        """Puts the queues into their order: the most done a second first, then the most held."""
        return cls(address, broker, tuple(sorted(queues, key=_activity)), total)

    @property
    def clients(self) -> list[Client]:
        """Who consumes from the queues that are looked at, the busiest first."""
        found: dict[str, Client] = {}
        for queue in self.queues:
            for each in queue.attached:
                before = found.get(each.client, Client(each.client, 0, 0, ()))
                names = before.queues if queue.name in before.queues else (*before.queues, queue.name)
                found[each.client] = Client(
                    each.client, before.leased + each.leased, before.credit + each.credit, names
                )
        return sorted(found.values(), key=lambda client: (-client.leased, client.name))


def _activity(queue: QueueInfo) -> tuple[float, int, str]:
    return -(queue.publish_rate + queue.settle_rate), -(queue.ready + queue.delayed + queue.leased), queue.name


def chosen(counts: Sequence[QueueCounts], before: View | None) -> list[str]:
    """The queues to ask more of: those that were busy, have consumers, or hold the most."""
    rates = {queue.name: queue.publish_rate + queue.settle_rate for queue in before.queues} if before else {}

    def interest(row: QueueCounts) -> tuple[float, bool, int]:
        return rates.get(row.name, 0.0), row.consumers > 0, row.ready + row.delayed + row.leased

    return [row.name for row in sorted(counts, key=interest, reverse=True)[:QUEUES_MAX]]


# In words.


def headline(view: View) -> str:
    """The broker in one line; one of an older version says nothing of itself."""
    broker = view.broker
    parts = [f"wherry at {view.address}", counted(view.total, "queue")]
    if broker.clients:
        parts += [counted(broker.clients, "client"), f"memory {_memory(broker)}", f"durability {broker.durability}"]
    return "  ".join(parts)


def _memory(broker: BrokerInfo) -> str:
    used = size_text(broker.memory_bytes)
    if not broker.memory_bytes_max:
        return used
    share = broker.memory_bytes / broker.memory_bytes_max
    return f"{used} of {size_text(broker.memory_bytes_max)} ({share:.0%})"


def queue_row(queue: QueueInfo) -> tuple[object, ...]:
    """A queue, under QUEUE_HEAD."""
    name = f"{queue.name} (paused)" if queue.options.get("paused") else queue.name
    counts = (queue.ready, queue.delayed, queue.leased, queue.dead)
    rest = (age_text(queue.oldest_age), queue.consumers, queue.options.get("durability", ""))
    return (name, *counts, float(queue.publish_rate), float(queue.settle_rate), *rest)


def client_row(client: Client) -> tuple[object, ...]:
    """A client, under CLIENT_HEAD."""
    return (client.name or "without a name", client.leased, client.credit, ", ".join(client.queues))


def lines(view: View) -> list[str]:
    """All of it as plain text."""
    result = [headline(view), "", *aligned(QUEUE_HEAD, list(map(queue_row, view.queues)))]
    if view.clients:
        result += ["", *aligned(CLIENT_HEAD, list(map(client_row, view.clients)))]
    return result


def fields(view: View) -> dict[str, Any]:
    """All of it for JSON."""
    return {
        "address": view.address,
        **view.broker._asdict(),
        "queues": [_queue_fields(queue) for queue in view.queues],
        "queues_total": view.total,
        "consumers": [client._asdict() for client in view.clients],
    }


def _queue_fields(queue: QueueInfo) -> dict[str, Any]:
    known = fields_of(queue)
    options = {name: queue.options.get(name) for name in ("durability", "paused")}
    return {name: known[name] for name in SHOWN} | options


def size_text(size: float) -> str:
    """Bytes as people read them."""
    for unit in UNITS[:-1]:
        if size < STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= STEP
    return f"{size:.1f} {UNITS[-1]}"


def age_text(seconds: float) -> str:
    """An age in its two largest units; "" for none."""
    if seconds < MINUTE:
        return f"{seconds:.0f}s" if seconds else ""
    minutes = round(seconds) // MINUTE
    if seconds < HOUR:
        return f"{minutes}m {round(seconds) % MINUTE}s"
    if seconds < DAY:
        return f"{minutes // 60}h {minutes % 60}m"
    return f"{minutes // 1440}d {minutes % 1440 // 60}h"


# On a screen.


def screen(view: View, width: int, height: int) -> RenderableType:
    """All of it that fits on a terminal of so many columns and lines."""
    from rich.console import Group  # noqa: PLC0415 (only a screen needs it)
    from rich.text import Text  # noqa: PLC0415

    clients = view.clients
    queues_shown, clients_shown = shares(height, len(view.queues), len(clients))
    queues = view.queues[:queues_shown]
    rows = [tuple(map(cell, queue_row(queue))) for queue in queues]
    parts: list[RenderableType] = [
        Text(headline(view), style="bold", no_wrap=True, overflow="ellipsis"),
        Text(),
        _table(QUEUE_HEAD, rows, list(map(_style, queues)), QUEUE_HEAD.index("queue"), width),
    ]
    if clients_shown:
        rows = [tuple(map(cell, client_row(client))) for client in clients[:clients_shown]]
        parts += [Text(), _table(CLIENT_HEAD, rows, [""] * len(rows), CLIENT_HEAD.index("queues"), width)]
    return Group(*parts)


def shares(height: int, queues: int, clients: int) -> tuple[int, int]:
    """How many queues and clients are shown on so many lines: at least a third for clients, if there are so many."""
    room = max(0, height - AROUND)
    for_clients = min(clients, max(room // 3, room - queues))
    return min(queues, room - for_clients), for_clients


def fitting(head: Sequence[str], widths: Sequence[int], elastic: int, width: int) -> list[int]:
    """The columns that fit into so many characters, when the elastic one may be cut to ELASTIC_MIN.

    Args:
        head: their names; those of DROPPED are left out where there is no room, the first one first.
        widths: how wide each would like to be.
        elastic: which of them may be cut.
        width: how much room there is.
    """
    needed = [min(ELASTIC_MIN, each) if place == elastic else each for place, each in enumerate(widths)]
    kept = list(range(len(head)))
    for place in map(head.index, filter(head.__contains__, DROPPED)):
        if sum(needed[each] + GAP for each in kept) <= width:
            break
        kept.remove(place)
    return kept


def cell(value: object) -> str:
    """A value for one cell of the screen."""
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else printable(value)


def _table(
    head: Sequence[str], rows: Sequence[tuple[str, ...]], styles: Sequence[str], elastic: int, width: int
) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    kept = fitting(head, widths, elastic, width)
    others = sum(widths[place] + GAP for place in kept if place != elastic)
    widths[elastic] = max(1, min(widths[elastic], width - GAP - others))
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="dim", pad_edge=False)
    for place in kept:
        side: Literal["left", "right"] = "left" if head[place] in LEFT else "right"
        table.add_column(head[place].upper(), justify=side, width=widths[place], no_wrap=True, overflow="ellipsis")
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(Text(row[place]) for place in kept), style=style)
    return table


def _style(queue: QueueInfo) -> str:
    if queue.options.get("paused"):
        return "yellow"
    return "red" if queue.dead else ""
