"""What the shop does, whoever calls it: nothing here knows of Celery or of wherry."""

from __future__ import annotations

import time
from pathlib import Path

PRICES = {"apple": 2, "pear": 3, "melon": 7}
KNOWN, SENT, REPORT = Path("known.txt"), Path("sent.txt"), Path("report.txt")


def deliver(address: str, text: str) -> None:
    """Sends a mail; as many real ones do, this mail server refuses an address that it does not know yet."""
    if not KNOWN.exists() or address not in KNOWN.read_text("utf-8").splitlines():
        _add(KNOWN, address)
        raise ConnectionError("450 greylisted, try again")
    _add(SENT, f"{address}: {text}")


def _add(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def price(fruit: str, count: int) -> int:
    """What some fruit costs."""
    return PRICES[fruit] * count


def scale(photo: str, width: int) -> str:
    """Makes a smaller photo beside the one that is given; returns its path."""
    small = Path(photo).with_suffix(f".{width}")
    small.write_bytes(Path(photo).read_bytes()[:width])
    return str(small)


def report() -> None:
    """Writes the report of the night."""
    _add(REPORT, f"{len(SENT.read_text('utf-8').splitlines())} receipts")


def crunch() -> None:
    """Takes too long."""
    for _ in range(600):
        time.sleep(0.1)
