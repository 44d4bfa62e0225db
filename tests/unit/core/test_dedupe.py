from __future__ import annotations

from wherry_broker.core.dedupe import DedupeKeys
from wherry_broker.core.memory import Memory
from wherry_broker.core.producers import Producers
from wherry_broker.core.timers import Timers


def test_a_key_is_known_for_the_window_and_forgotten_after_it():
    keys = DedupeKeys(Memory(Timers(), Producers()))
    keys.remember("a", 7, 100, 50)
    assert (keys.known("a", 149), keys.known("a", 150), keys.known("b", 100)) == (7, None, None)
    keys.remember("a", 8, 150, 50)
    keys.remember("b", 9, 199, 50)
    assert keys == {"a": (8, 200), "b": (9, 249)}
    keys.remember("c", 10, 200, 50)
    assert list(keys) == ["b", "c"]


def test_a_window_of_nothing_remembers_nothing():
    keys = DedupeKeys(Memory(Timers(), Producers()))
    keys.remember("a", 7, 100, 0)
    assert (keys, keys.known("a", 100)) == ({}, None)


def test_a_limit_shortens_what_lasts_longer():
    keys = DedupeKeys(Memory(Timers(), Producers()))
    for number, key in enumerate("abcd"):
        keys.remember(key, number, 1_000 * number, 5_000)
    keys.limit(6_500)
    assert keys == {"a": (0, 5_000), "b": (1, 6_000), "c": (2, 6_500), "d": (3, 6_500)}
    keys.remember("e", 9, 6_500, 5_000)
    assert list(keys) == ["e"]


def test_a_key_that_was_remembered_twice_is_forgotten_once():
    keys = DedupeKeys(Memory(Timers(), Producers()))
    keys.restate("a", 1, 100)
    keys.restate("a", 2, 100)
    keys.remember("b", 3, 200, 50)
    assert list(keys) == ["b"]


def test_a_shorter_window_counts_for_what_is_remembered_already():
    """A restart limits all keys to the window that the queue has then: it forgot those of a longer one."""
    keys = DedupeKeys(Memory(Timers(), Producers()))
    keys.remember("a", 1, 1_000, 500)
    keys.remember("b", 2, 1_200, 500)
    keys.shorten(400)
    assert (keys.known("a", 1_099), keys.known("a", 1_100), keys.known("b", 1_299)) == (1, None, 2)
    keys.remember("c", 3, 1_100, 100)
    assert list(keys) == ["b", "c"]
