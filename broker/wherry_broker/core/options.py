"""The options of a queue: names, defaults and limits, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from wherry.model.names import pattern_problem

LEVELS = ("memory", "written", "synced", "replicated")
OVERFLOWS = ("busy", "drop_oldest")
KINDS = ("queue", "store")
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
        rate_per_s: how many messages may be delivered a second; 0 for no limit.
        ordered: whether the messages of a key are delivered one at a time and in order, retries included.
        key_max_leased: how many messages of one key may be leased at a time; 0 for no limit.
        key_rate_per_s: how many messages of one key may be delivered a second; 0 for no limit.
        key_weights: how large a share of the deliveries a key has, beside one that is not named and has 1.
        paused: whether deliveries are stopped.
        bind: the patterns of the subjects that it takes, sorted; see `bindings`.
        result_ttl_ms: how long it is remembered how a tracked message ended, and its result.
        kind: `queue`, or `store`: one that keeps the newest value of each key, and delivers none.
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
    rate_per_s: float = 0.0
    ordered: bool = False
    key_max_leased: int = 0
    key_rate_per_s: float = 0.0
    key_weights: dict[str, int] = field(default_factory=dict)
    paused: bool = False
    bind: tuple[str, ...] = ()
    result_ttl_ms: int = DAY_MS
    kind: str = "queue"

    def changed(self, given: dict[str, Any]) -> QueueOptions:
        """These options with others in the place of some.

        Args:
            given: option names to values, as they came from outside.

        Raises:
            InvalidOption: a name is unknown, or a value has the wrong type or is out of range; or a store is bound.
        """
        result = QueueOptions(**{**self.as_map(), **{name: checked(name, value) for name, value in given.items()}})
        if result.kind == "store" and result.bind:
            raise InvalidOption("bind is for queues: a store takes no messages")
        return result

    def differing(self, given: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Which of the given options differ from these: name to (this value, given value)."""
        mine = self.as_map()
        wanted = {name: checked(name, value) for name, value in given.items()}
        return {name: (mine[name], value) for name, value in wanted.items() if mine[name] != value}

    def as_changes(self) -> dict[str, Any]:
        """Option names to values, for those that are not the default."""
        return {name: value for name, value in self.as_map().items() if value != _DEFAULTS[name]}

    def as_map(self) -> dict[str, Any]:
        """Option names to values; these are never altered, and shared."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES = tuple(each.name for each in fields(QueueOptions))
_DEFAULTS = QueueOptions().as_map()


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
    "rate_per_s": (0.0, 1e9),
    "key_max_leased": (0, MESSAGES_MAX),
    "key_rate_per_s": (0.0, 1e9),
    "key_weights": (1, 1_000),
    "bind": (0, 100),
    "result_ttl_ms": (1_000, YEAR_MS),
}
WEIGHTS_MAX = 64
CHOICES: dict[str, tuple[str, ...]] = {"overflow": OVERFLOWS, "durability": LEVELS, "kind": KINDS}
_TYPES: dict[str, type[Any]] = {name: type(value) for name, value in _DEFAULTS.items()}


def checked(name: str, value: Any) -> Any:
    """The value of one option, checked.

    Raises:
        InvalidOption: the name is unknown, or the value has the wrong type or is out of range.
    """
    kind = _TYPES.get(name)
    if kind is None:
        raise InvalidOption(f"there is no queue option {name[:40]!r}; there are {', '.join(_TYPES)}")
    if name == "bind":
        return _checked_patterns(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InvalidOption(f"{name} is a {kind.__name__}, not {value!r:.40}")
    if name in CHOICES and value not in CHOICES[name]:
        raise InvalidOption(f"{name} {value[:40]!r} is not one of {', '.join(CHOICES[name])}")
    if name == "key_weights":
        return _checked_weights(value)
    if name in LIMITS and not LIMITS[name][0] <= value <= LIMITS[name][1]:
        low, high = LIMITS[name]
        raise InvalidOption(f"{name} {value} is not within {low} to {high}")
    return value


def _checked_weights(weights: dict[Any, Any]) -> dict[str, int]:
    if len(weights) > WEIGHTS_MAX:
        raise InvalidOption(f"key_weights names {len(weights)} keys, which is over the limit of {WEIGHTS_MAX}")
    low, high = LIMITS["key_weights"]
    for key, weight in weights.items():
        if type(key) is not str or type(weight) is not int or not low <= weight <= high:
            raise InvalidOption(f"key_weights {key!r:.40}: {weight!r:.40} is not a key and a weight of {low} to {high}")
    return dict(weights)


def _checked_patterns(patterns: Any) -> tuple[str, ...]:
    if type(patterns) not in (list, tuple):
        raise InvalidOption(f"bind is a list of patterns, not {patterns!r:.40}")
    limit = LIMITS["bind"][1]
    if len(patterns) > limit:
        raise InvalidOption(f"bind names {len(patterns)} patterns, which is over the limit of {limit}")
    for pattern in patterns:
        problem = pattern_problem(pattern) if type(pattern) is str else f"{pattern!r:.40} is no pattern"
        if problem:
            raise InvalidOption(f"bind: {problem}")
    return tuple(sorted(set(patterns)))
