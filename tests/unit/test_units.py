"""Durations and sizes as people write them."""

import pytest

from wherry_broker.units import duration_ms, size_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30_000),
        ("30s", 30_000),
        ("0", 0),
        ("250ms", 250),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("1.5", 1_500),
        (".5s", 500),
        ("0.0001", 1),
        (" 2 m ", 120_000),
        ("1H", 3_600_000),
        ("1_000ms", 1_000),
    ],
)
def test_durations(text, expected):
    assert duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "s", "5x", "-1", "1e3", "1m30s", "nan", "٣", "1__"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="not a duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000", 1_000), ("1_000", 1_000), ("64KiB", 65_536), ("1.5kb", 1_500), ("256 MiB", 1 << 28), ("2GB", 2 * 10**9)],
)
def test_sizes(text, expected):
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "B", "1TB", "-1", "1.5.2"])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="not a size"):
        size_bytes(text)
