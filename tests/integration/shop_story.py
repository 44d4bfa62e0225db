"""A day of the shop of examples/from_celery: `python shop_story.py celery`, or `wherry`, prints what it saw as JSON.

It runs in a folder of its own, in the environment of a program that uses that system, and its worker is a process as
its users start it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

DEADLINE_S = 60


class Photo:
    """A photo whose bytes come when the story says so: what scales it waits for that.

    Args:
        name: of the file.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(name)
        os.mkfifo(self.path)

    def give(self) -> None:
        """Lets it be read once."""
        self.path.write_bytes(b"x" * 300)


def until(look: Any) -> Any:
    """What `look` returns, once that is not None."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.02)  # between questions to another system
    raise TimeoutError(f"{look} came to nothing in {DEADLINE_S} s")


def thumbnails(web: Any) -> dict[str, Any]:
    """A photo is scaled, and meanwhile it is seen how far that has come."""
    photo = Photo("cat.raw")
    job = web.upload(str(photo.path))
    too_early = web.thumbnails(job)
    photo.give()
    seen = until(lambda: web.progress(job))
    photo.give()
    made = until(lambda: web.thumbnails(job))
    return {"early": too_early, "progress": seen, "made": made, "bytes": [Path(each).stat().st_size for each in made]}


def night(system: str) -> dict[str, str]:
    """When the nightly report is due, and what it says when it is called as its schedule would."""
    due = due_in_celery() if system == "celery" else due_in_wherry()
    report = Path("report.txt").read_text("utf-8")
    return {"due": due.astimezone(ZoneInfo("Europe/Paris")).strftime("%H:%M"), "report": report}


def due_in_celery() -> datetime:
    from celery.beat import Scheduler  # noqa: PLC0415

    import celery_app  # noqa: PLC0415 (each of the two runs without the other)

    beat = Scheduler(celery_app.app)
    beat.setup_schedule()
    entry = beat.schedule["nightly"]
    beat.apply_async(entry, advance=False).get(timeout=DEADLINE_S)
    nearly = timedelta(seconds=30)  # it looks at its own clock in between
    return datetime.now(UTC) + entry.schedule.remaining_estimate(datetime.now(UTC)) + nearly


def due_in_wherry() -> datetime:
    from wherry_app import nightly, tasks  # noqa: PLC0415

    called = tasks.broker_sync().run_schedule(nightly.name)
    nightly.handle_sync(called.last_id).result(DEADLINE_S)
    assert called.next_due is not None
    return called.next_due


def story(system: str, web: Any) -> dict[str, Any]:
    """All that the shop does, with a worker there."""
    mails = [web.bought(order, f"{name}@example.org") for order, name in enumerate(("ann", "bob"))]
    late = web.remind_later(1, 0.5)
    told = {
        "mails": [web.mailed(mail) for mail in mails],
        "sent": sorted(Path("sent.txt").read_text("utf-8").splitlines()),
        "quotes": [web.quote("pear"), web.quote("durian")],
        "sum": web.add_up({"apple": 3, "pear": 2, "melon": 1}),
        "thumbnails": thumbnails(web),
        "statistics": web.statistics(),
        "late": web.reminded(late),
        "night": night(system),
    }
    never = web.remind_later(2, 0.5)
    web.paid(never)
    return {**told, "never": web.reminded(never)}


COMMANDS = {
    "celery": [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-Q", "celery,images"],
    "wherry": ["wherry", "worker", "wherry_app:tasks", "--concurrency", "2"],
}


def main(system: str) -> None:
    web = importlib.import_module(f"{system}_web")
    early = web.remind_later(3, 0.5)
    web.paid(early)  # before there is any worker
    worker = subprocess.Popen(COMMANDS[system], stdout=sys.stderr)
    try:
        told = {**story(system, web), "paid early": web.reminded(early)}
    finally:
        worker.send_signal(signal.SIGQUIT if system == "celery" else signal.SIGTERM)  # SIGTERM takes Celery 3 s
        worker.wait(DEADLINE_S)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
