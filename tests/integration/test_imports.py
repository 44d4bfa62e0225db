"""What a start imports, and what it does without: every module that nobody needs is a start that takes longer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from serving import DEADLINE_S, CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterable

TOLD = {"PYTHONPROFILEIMPORTTIME": "1"}
NOBODY = {"http", "pygments", "rich.console", "unittest", "xml"}
BROKER = {"structlog", "uvloop.loop", "wherry_broker.app", "wherry_broker.core", "wherry_broker.log"}
CLIENTS = {"wherry.aio", "wherry.conversation", "wherry.sync", "wherry.tasks"}


@pytest.fixture
def wherry(tmp_path):
    return CommandLine(tmp_path, **TOLD)


def imported(lines: Iterable[bytes]) -> set[str]:
    """The modules that Python says it has imported."""
    return {line.rpartition(b"|")[2].strip().decode() for line in lines if line.startswith(b"import time:")}


def test_a_broker_that_is_ready_has_imported_no_more_than_it_needs(wherry, tmp_path):
    with (tmp_path / "stderr").open("w+b") as told:
        with wherry.start("serve", "--port", "0", "--data", str(tmp_path / "data"), stderr=told) as process:
            assert process.stdout.readline().startswith(b"wherry ready on ")
            process.terminate()
            process.communicate(timeout=DEADLINE_S)
        told.seek(0)
        found = imported(told)
    assert found >= BROKER
    assert not found & {*NOBODY, *CLIENTS, "attr", "opentelemetry", "wherry_broker.testing"}


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("worker", "--help"), ("publish", "--help")])
def test_the_command_line_imports_nothing_of_the_broker(wherry, arguments):
    done = wherry.run(*arguments)
    assert done.returncode == 0
    found = imported(done.stderr.encode().splitlines())
    assert "wherry_broker.cli.root" in found
    assert not found & {*NOBODY, *BROKER, *CLIENTS}


def test_naming_the_client_imports_nothing_that_speaks_yet():
    command = [sys.executable, "-X", "importtime", "-c", "import wherry"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=DEADLINE_S)
    found = imported(done.stderr.splitlines())
    assert "wherry.errors" in found
    assert not found & {
        *NOBODY,
        *CLIENTS,
        *BROKER,
        "asyncio",
        "email",
        "importlib.metadata",
        "logging",
        "socket",
        "ssl",
    }
