"""The options of a queue: names, defaults and limits, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

LEVELS = ("memory", "written", "synced", "replicated")
OVERFLOWS = ("busy", "drop_oldest")
DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
MESSAGES_MAX = 1_000_000_000
BYTES_MAX = 1 << 50


class InvalidOption(Exception):
    """An option is unknown, or its value is out of range; the text names both."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What a queue allows and how it behaves. Durations are milliseconds; 0 means none where it is in range.

    Attributes:
        max_messages: the bound on messages held, whatever their state.
        max_bytes: the bound on the bytes of the messages held.
        overflow: what a publish beyond a bound meets: `busy` refuses it, `drop_oldest` drops the oldest ready ones.
        lease_ms: how long a consumer may hold a message before it goes to another.
        max_attempts: how many attempts a message has before it is dead.
        retry_base_ms: the first back-off after a nack.
        retry_factor: what the back-off is multiplied by from attempt to attempt.
        retry_cap_ms: the longest back-off. A delay is drawn evenly from 0 to the back-off (full jitter).
        ttl_ms: how long a message may wait before it expires; a publish may ask for less.
        priorities: how many priorities there are; 0 is the lowest.
        durability: what a confirm means; see the promise table.
        dedupe_window_ms: how long a dedupe key is remembered.
        dead_max_messages: how many dead messages are kept; the oldest make room.
        max_leased: how many messages may be leased at a time; 0 for no limit.
        paused: whether deliveries are stopped.
    """

    max_messages: int = 1_000_000
    max_bytes: int = 256 * 1024 * 1024
    overflow: str = "busy"
    lease_ms: int = 30_000
    max_attempts: int = 10
    retry_base_ms: int = 1_000
    retry_factor: float = 2.0
    retry_cap_ms: int = 300_000
    ttl_ms: int = 0
    priorities: int = 10
    durability: str = "memory"
    dedupe_window_ms: int = 120_000
    dead_max_messages: int = 100_000
    max_leased: int = 0
    paused: bool = False

    def changed(self, given: dict[str, Any]) -> QueueOptions:
        """These options with others in the place of some.

        Args:
            given: option names to values, as they came from outside.

        Raises:
            InvalidOption: a name is unknown, or a value has the wrong type or is out of range.
        """
        return QueueOptions(**{**asdict(self), **{name: checked(name, value) for name, value in given.items()}})

    def differing(self, given: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Which of the given options differ from these: name to (this value, given value)."""
        mine = asdict(self)
        wanted = {name: checked(name, value) for name, value in given.items()}
        return {name: (mine[name], value) for name, value in wanted.items() if mine[name] != value}

    def as_changes(self) -> dict[str, Any]:
        """Option names to values, for those that are not the default."""
        plain = asdict(QueueOptions())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}

    def as_map(self) -> dict[str, Any]:
        """Option names to values."""
        return asdict(self)


LIMITS: dict[str, tuple[float, float]] = {
    "max_messages": (1, MESSAGES_MAX),
    "max_bytes": (1, BYTES_MAX),
    "lease_ms": (10, 7 * DAY_MS),
    "max_attempts": (1, 1_000_000),
    "retry_base_ms": (0, DAY_MS),
    "retry_factor": (1.0, 100.0),
    "retry_cap_ms": (0, 30 * DAY_MS),
    "ttl_ms": (0, 10 * YEAR_MS),
    "priorities": (1, 10),
    "dedupe_window_ms": (0, 7 * DAY_MS),
    "dead_max_messages": (0, MESSAGES_MAX),
    "max_leased": (0, MESSAGES_MAX),
}
CHOICES: dict[str, tuple[str, ...]] = {"overflow": OVERFLOWS, "durability": LEVELS}
_TYPES: dict[str, type[Any]] = {field.name: type(field.default) for field in fields(QueueOptions)}


def checked(name: str, value: Any) -> Any:
    """The value of one option, checked.

    Raises:
        InvalidOption: the name is unknown, or the value has the wrong type or is out of range.
    """
    kind = _TYPES.get(name)
    if kind is None:
        raise InvalidOption(f"there is no queue option {name[:40]!r}; there are {', '.join(_TYPES)}")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InvalidOption(f"{name} is a {kind.__name__}, not {value!r:.40}")
    if name in CHOICES and value not in CHOICES[name]:
        raise InvalidOption(f"{name} {value[:40]!r} is not one of {', '.join(CHOICES[name])}")
    if name in LIMITS and not LIMITS[name][0] <= value <= LIMITS[name][1]:
        low, high = LIMITS[name]
        raise InvalidOption(f"{name} {value} is not within {low} to {high}")
    return value
