"""What one run of the simulation is like, drawn from its seed: some are calm, some are storms."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from wherry_broker.core.options import QueueOptions

LEVELS = ("synced", "synced", "synced", "written", "memory")


@dataclass
class Settings:
    """The options of a run, drawn from its seed.

    Attributes:
        clients: how many there are.
        queues: the options of each queue, by name.
        weights: how often each kind of thing happens.
    """

    clients: int
    segment_bytes: int
    resident_bytes_max: int
    ahead_bytes: int
    sync_interval_ms: int
    reserve_bytes: int
    capacity: int
    uncommitted_bytes_max: int
    big_messages: bool
    settle_share: float
    oddity_share: float
    commit_share: float
    risks_removals: bool
    topic_share: float
    weights: dict = field(default_factory=dict)
    queues: dict = field(default_factory=dict)

    @property
    def bound(self):
        """The queues that take each subject."""
        return {
            subject: tuple(name for name, options in self.queues.items() if {subject, "topic.>"} & set(options["bind"]))
            for subject in ("topic.a", "topic.b")
        }

    @property
    def defaults(self):
        return QueueOptions(durability="synced")

    def __str__(self):
        return ", ".join(f"{name}={value!r}" for name, value in asdict(self).items())


def draw_settings(rng):
    """The options of a run."""
    choice = rng.choice
    settings = Settings(
        clients=choice([1, 2, 3, 4]),
        segment_bytes=choice([300, 600, 1500, 6000]),
        resident_bytes_max=choice([0, 300, 2000, 100_000]),
        ahead_bytes=choice([60, 300, 1000]),
        sync_interval_ms=choice([1, 20, 100]),
        reserve_bytes=20_000,
        capacity=choice([1 << 40, 1 << 40, 80_000]),
        uncommitted_bytes_max=choice([100, 1000, 100_000]),
        big_messages=choice([False, False, True]),
        settle_share=choice([0.3, 0.6, 0.9]),
        oddity_share=choice([0.05, 0.05, 0.3]),
        commit_share=choice([0.0, 0.05, 0.3]),
        risks_removals=choice([False, True, True]),
        topic_share=choice([0.0, 0.05, 0.3]),
    )
    settings.weights = {
        "client": choice([8, 15, 30]),
        "network": choice([5, 15, 25]),
        "loop": choice([15, 30]),
        "writer": choice([5, 15, 30]),
        "reader": choice([2, 10]),
        "time": choice([1, 4]),
        "sweep": choice([0.0, 0.03, 0.15]),
        "disconnect": choice([0.0, 0.05, 0.3]),
        "power": choice([0.0, 0.05, 0.2]),
        "kill": choice([0.0, 0.05, 0.1]),
        "stop": choice([0.0, 0.03]),
        "sync error": choice([0.0, 0.03, 0.1]),
        "write error": choice([0.0, 0.0, 0.03]),
    }
    for number in range(choice([1, 2, 3, 4])):
        level = choice(LEVELS)
        settings.queues[f"{level}{number}"] = QueueOptions(**draw_queue(choice), durability=level).as_map()
    return settings


def draw_queue(choice):
    """The options of a queue."""
    return {
        "max_messages": choice([5, 40, 200]),
        "max_bytes": choice([600, 5_000, 50_000]),
        "overflow": choice(["busy", "busy", "drop_oldest"]),
        "lease_ms": choice([20, 200, 1000]),
        "max_attempts": choice([1, 3, 10]),
        "retry_base_ms": choice([0, 10, 100]),
        "retry_cap_ms": choice([100, 1000]),
        "ttl_ms": choice([0, 0, 0, 500]),
        "priorities": choice([1, 3]),
        "dedupe_window_ms": choice([0, 50, 2000]),
        "dead_max_messages": choice([0, 2, 50]),
        "max_leased": choice([0, 0, 3]),
        "ordered": choice([False, False, False, True]),
        "key_max_leased": choice([0, 0, 0, 2]),
        "rate_per_s": choice([0.0, 0.0, 0.0, 500.0]),
        "key_weights": choice([{}, {"ann": 3}]),
        "bind": choice([["topic.>"], ["topic.>"], ["topic.a"], []]),
    }
