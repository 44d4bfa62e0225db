"""The half of the shop that gives work away, in wherry."""

from __future__ import annotations

import wherry
import wherry_app
from wherry.tasks import chord


def bought(order: int, address: str) -> str:
    """Someone has bought something; returns what to ask for the receipt by."""
    return wherry_app.receipt.send_sync(order, address).id


def mailed(job: str) -> str:
    """What came of a receipt."""
    return wherry_app.receipt.handle_sync(job).result(timeout=30)


def quote(fruit: str) -> str:
    """What one piece costs."""
    try:
        return str(wherry_app.price.send_sync(fruit, count=1).result(timeout=30))
    except wherry.JobFailed:
        return "not sold here"


def add_up(basket: dict[str, int]) -> int:
    """What a basket costs, each of its lines priced by a job of its own."""
    lines = [wherry_app.price.s(fruit, count) for fruit, count in basket.items()]
    return chord(lines, wherry_app.total.then(shipping=5)).send_sync().result(timeout=30)


def upload(photo: str) -> str:
    """Someone has uploaded a photo."""
    return wherry_app.resize.send_sync(photo, [100, 200]).id


def progress(job: str) -> tuple[float, str] | None:
    """How far the thumbnails are."""
    status = wherry_app.resize.handle_sync(job).status()
    return None if status.progress is None else (status.progress, status.note)


def thumbnails(job: str) -> list[str] | None:
    """The thumbnails, if they are there by now."""
    try:
        return wherry_app.resize.handle_sync(job).result(timeout=0.5)
    except wherry.RequestTimeout:
        return None


def remind_later(order: int, seconds: float) -> str:
    """Has someone reminded, unless it is paid before."""
    return wherry_app.remind.options(delay=seconds, ttl=seconds + 3600).send_sync(order).id


def paid(reminder: str) -> None:
    """It is paid."""
    wherry_app.remind.handle_sync(reminder).cancel()


def reminded(reminder: str) -> str:
    """What came of a reminder."""
    try:
        return wherry_app.remind.handle_sync(reminder).result(timeout=30)
    except wherry.JobCancelled:
        return "none, it was paid"


def statistics() -> str:
    """Asks for what takes too long."""
    return wherry_app.statistics.send_sync().result(timeout=30)
