"""The shop's tasks in wherry: `wherry worker wherry_app:tasks`, and nothing else."""

from __future__ import annotations

import shop
from wherry.tasks import Retry, Tasks, current

tasks = Tasks(defaults={"retries": 0})  # at the address in WHERRY_URL, or on this machine


@tasks.task(retry_on=(ConnectionError,), retries=5, back_off=Retry(base=1), rate_per_s=10)
def receipt(order: int, address: str) -> str:
    """Mails a receipt."""
    shop.deliver(address, f"thank you for order {order}")
    return f"order {order} to {address}"


@tasks.task
def price(fruit: str, count: int) -> int:
    """Prices one line of an order."""
    return shop.price(fruit, count)


@tasks.task
def total(prices: list[int], shipping: int) -> int:
    """Adds up an order."""
    return sum(prices) + shipping


@tasks.task(queue="images")
def resize(photo: str, widths: list[int]) -> list[str]:
    """Makes thumbnails."""
    made: list[str] = []
    for width in widths:
        made.append(shop.scale(photo, width))
        current().progress(len(made) / len(widths), f"{width} px")
    return made


@tasks.task
def remind(order: int) -> str:
    """Reminds of an order that was not paid."""
    return f"order {order} is still to be paid"


@tasks.task(timeout=1)
def statistics() -> str:
    """Works out what nobody waits for."""
    try:
        shop.crunch()
    except TimeoutError:
        return "gave up"
    return "done"


@tasks.cron("30 3 * * *", zone="Europe/Paris")
def nightly() -> None:
    """Reports what was sold."""
    shop.report()
