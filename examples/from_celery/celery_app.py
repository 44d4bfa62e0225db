"""The shop's tasks in Celery: `celery -A celery_app worker -Q celery,images`, and `celery -A celery_app beat`."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.schedules import crontab

import shop

app = Celery("shop", broker="redis://localhost", backend="redis://localhost")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    timezone="Europe/Paris",
    task_routes={"celery_app.resize": {"queue": "images"}},
    beat_schedule={"nightly": {"task": "celery_app.nightly", "schedule": crontab(hour=3, minute=30)}},
)


@app.task(autoretry_for=(ConnectionError,), max_retries=5, retry_backoff=1, rate_limit="10/s")
def receipt(order: int, address: str) -> str:
    """Mails a receipt."""
    shop.deliver(address, f"thank you for order {order}")
    return f"order {order} to {address}"


@app.task
def price(fruit: str, count: int) -> int:
    """Prices one line of an order."""
    return shop.price(fruit, count)


@app.task
def total(prices: list[int], shipping: int) -> int:
    """Adds up an order."""
    return sum(prices) + shipping


@app.task(bind=True)
def resize(self: Any, photo: str, widths: list[int]) -> list[str]:
    """Makes thumbnails."""
    made = []
    for width in widths:
        made.append(shop.scale(photo, width))
        self.update_state(state="PROGRESS", meta={"done": len(made) / len(widths), "note": f"{width} px"})
    return made


@app.task
def remind(order: int) -> str:
    """Reminds of an order that was not paid."""
    return f"order {order} is still to be paid"


@app.task(soft_time_limit=1)
def statistics() -> str:
    """Works out what nobody waits for."""
    try:
        shop.crunch()
    except SoftTimeLimitExceeded:
        return "gave up"
    return "done"


@app.task
def nightly() -> None:
    """Reports what was sold."""
    shop.report()
