"""The worker beside app.py: makes the reports, one by one. What it has not made when it is stopped stays queued."""

from __future__ import annotations

import asyncio
import os

import wherry

CREDIT = 4


async def make(message: wherry.Message) -> None:
    """Makes one report."""
    async with message:  # acknowledged at the end; tried again later when this raises
        print(f"{message.id}: a {message.body.decode()} report", flush=True)


async def main() -> None:
    """Takes orders as they come."""
    async with wherry.connect(os.environ.get("WHERRY_URL", "wherry://127.0.0.1:7117")) as broker:
        async for message in broker.queue("reports").consume(credit=CREDIT):
            await make(message)


if __name__ == "__main__":
    asyncio.run(main())
