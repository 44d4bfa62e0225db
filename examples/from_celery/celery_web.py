"""The half of the shop that gives work away, in Celery."""

from __future__ import annotations

from celery import chord
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as NotYet
from celery.result import AsyncResult

import celery_app


def bought(order: int, address: str) -> str:
    """Someone has bought something; returns what to ask for the receipt by."""
    return celery_app.receipt.delay(order, address).id


def mailed(job: str) -> str:
    """What came of a receipt."""
    return AsyncResult(job, app=celery_app.app).get(timeout=30)


def quote(fruit: str) -> str:
    """What one piece costs."""
    try:
        return str(celery_app.price.delay(fruit, count=1).get(timeout=30))
    except KeyError:
        return "not sold here"


def add_up(basket: dict[str, int]) -> int:
    """What a basket costs, each of its lines priced by a job of its own."""
    lines = [celery_app.price.s(fruit, count) for fruit, count in basket.items()]
    return chord(lines)(celery_app.total.s(shipping=5)).get(timeout=30)


def upload(photo: str) -> str:
    """Someone has uploaded a photo."""
    return celery_app.resize.delay(photo, [100, 200]).id


def progress(job: str) -> tuple[float, str] | None:
    """How far the thumbnails are."""
    result = AsyncResult(job, app=celery_app.app)
    state, info = result.state, result.info
    return (info["done"], info["note"]) if state == "PROGRESS" else None


def thumbnails(job: str) -> list[str] | None:
    """The thumbnails, if they are there by now."""
    try:
        return AsyncResult(job, app=celery_app.app).get(timeout=0.5)
    except NotYet:
        return None


def remind_later(order: int, seconds: float) -> str:
    """Has someone reminded, unless it is paid before."""
    return celery_app.remind.apply_async((order,), countdown=seconds, expires=seconds + 3600).id


def paid(reminder: str) -> None:
    """It is paid."""
    AsyncResult(reminder, app=celery_app.app).revoke()


def reminded(reminder: str) -> str:
    """What came of a reminder."""
    try:
        return AsyncResult(reminder, app=celery_app.app).get(timeout=30)
    except TaskRevokedError:
        return "none, it was paid"


def statistics() -> str:
    """Asks for what takes too long."""
    return celery_app.statistics.delay().get(timeout=30)
