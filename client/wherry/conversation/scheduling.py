"""What can be asked about schedules, as pairs: the command, and what to make of its reply. Pure.

The moment that a message is for travels in its headers: the client says where in the packed headers the eight bytes of
it are, and the broker, which never unpacks them, writes them there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.conversation.asks import Ask, check_queue_name
from wherry.conversation.composing import envelope_of
from wherry.conversation.content import body_bytes
from wherry.model import commands
from wherry.model.schedules import ScheduleInfo, ScheduleOptions
from wherry.model.times import moment_ms, to_ms
from wherry.wire.messages import pack_headers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from wherry.model import replies

DUE, NAME = "due_ms", "schedule"
"""The headers that tell a handler which moment of which schedule a message is for."""
_WIDEST = (1 << 64) - 1
_DUE_BYTES = pack_headers({DUE: _WIDEST})[1:-8]
"""What stands in front of the moment: the header's name, and the mark of an integer of eight bytes."""


def schedule(name: str, queue: str, body: Any, options: ScheduleOptions) -> Ask[ScheduleInfo]:
    """Has the broker publish at moments to come, or sees that it does so already.

    Raises:
        Invalid: an option is out of range.
        ValueError: a moment has no time zone, a duration makes no sense, or a header is one of ours.
        TypeError: there is no such option, or a value is of another type.
    """
    unknown = sorted(options.keys() - ScheduleOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"a schedule has no option {unknown[0]!r}; it has {', '.join(ScheduleOptions.__annotations__)}")
    envelope = envelope_of(options.get("priority", 0), options.get("key", ""), "", None, None, options.get("ttl"))
    packed = _packed(name, options.get("headers"))
    make = partial(
        commands.Schedule,
        name=name,
        queue=check_queue_name(queue),
        cron=options.get("cron") or "",
        zone=_zone(options.get("zone")),
        every_ms=_every_ms(options),
        anchor_ms=_moment_ms(options.get("anchor")),
        at_ms=_moment_ms(options.get("at")),
        start_ms=_moment_ms(options.get("start")),
        end_ms=_moment_ms(options.get("end")),
        priority=envelope.priority,
        key=envelope.key,
        ttl_ms=envelope.ttl_ms,
        missed=options.get("missed", "once"),
        overlap=options.get("overlap", "allow"),
        late_ms=to_ms(options.get("late", 60)),
        track=bool(options.get("track", False)),
        stamp=packed.index(_DUE_BYTES) + len(_DUE_BYTES),
        block=packed + body_bytes(body),
    )
    return Ask(make, _one)


def schedules(prefix: str, after: str) -> Ask[tuple[list[ScheduleInfo], bool]]:
    """A page of the list of schedules, by name after `after`, and whether more follow."""
    return Ask(partial(commands.ListSchedules, prefix=prefix, after=after), _page)


def unschedule(name: str) -> Ask[None]:
    """Removes a schedule."""
    return Ask(partial(commands.Unschedule, name=name), lambda _reply: None)


def run(name: str) -> Ask[ScheduleInfo]:
    """Has a schedule publish now."""
    return Ask(partial(commands.RunSchedule, name=name), _one)


def pause(name: str, *, paused: bool) -> Ask[ScheduleInfo]:
    """Stops a schedule, or lets it go on."""
    return Ask(partial(commands.PauseSchedule, name=name, paused=paused), _one)


def _packed(name: str, headers: Mapping[str, Any] | None) -> bytes:
    """The headers of a message, with room for the moment; that comes first, so that it is found by its name."""
    headers = headers or {}
    for ours in (DUE, NAME):
        if ours in headers:
            raise ValueError(f"the header {ours!r} of a schedule's messages is set by the schedule")
    return pack_headers({DUE: _WIDEST, NAME: name, **headers})


def _zone(zone: str | tzinfo | None) -> str:
    name = getattr(zone, "key", zone) or ""
    if not isinstance(name, str):
        raise TypeError(f"a zone is an IANA name or a ZoneInfo, not {zone!r}")
    return name


def _every_ms(options: ScheduleOptions) -> int:
    every = options.get("every")
    every_ms = 0 if every is None else to_ms(every)
    if every is not None and not every_ms:
        raise errors.Invalid(f"an interval is more than 0 seconds, not {every!r}")
    return every_ms


def _moment_ms(moment: datetime | None) -> int:
    return 0 if moment is None else moment_ms(moment)


def _one(reply: replies.Schedules) -> ScheduleInfo:
    return ScheduleInfo.from_row(reply.schedules[0], reply.change)


def _page(reply: replies.Schedules) -> tuple[list[ScheduleInfo], bool]:
    return [ScheduleInfo.from_row(row) for row in reply.schedules], reply.more
