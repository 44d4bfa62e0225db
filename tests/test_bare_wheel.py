"""The wheel by itself: it installs with msgpack alone, the client works, and the command line says what is missing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from installing import ROOT, need_index, run
from serving import Served

SERVER_ONLY = ("click", "structlog", "uvloop")

IMPORTED = """
import json, sys
before = set(sys.modules)
import wherry.aio, wherry.sync
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


WORKING = """
import asyncio, sys, wherry

async def main():
    async with wherry.connect(sys.argv[1]) as broker:
        queue = await broker.declare("bare", max_attempts=3)
        await queue.publish_many([b"one", b"two"], headers={"kind": "greeting"})
        async with queue.consume(credit=2) as consumer:
            async for message in consumer:
                async with message:
                    print(message.id.partition("/")[0], message.body.decode(), message.headers)
                if message.body == b"two":
                    break
        print((await queue.info()).removed)

asyncio.run(main())
"""


class Bare(NamedTuple):
    """An environment in which only the wheel and what it asks for is installed."""

    wheel: Path
    bin: Path

    def pip_list(self) -> set[str]:
        done = run(self.bin / "pip", "list", "--format", "json", "--disable-pip-version-check")
        assert done.returncode == 0, done.stderr
        return {package["name"].lower() for package in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    need_index(folder)
    pip = folder / "venv" / "bin" / "pip"
    built = run(pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("wherry-*.whl")
    installed = run(pip, "install", wheel)
    assert installed.returncode == 0, installed.stderr
    return Bare(wheel, folder / "venv" / "bin")


def test_msgpack_is_all_that_it_needs(bare):
    assert bare.pip_list() - {"pip", "setuptools"} == {"wherry", "msgpack"}


def test_the_wheel_holds_the_sources_and_nothing_else(bare):
    with zipfile.ZipFile(bare.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(ROOT / folder))
        for folder in ("client", "broker")
        for path in (ROOT / folder).glob("wherry*/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources


def test_the_wheel_says_that_it_is_typed(bare):
    with zipfile.ZipFile(bare.wheel) as archive:
        assert {"wherry/py.typed", "wherry_broker/py.typed"} <= set(archive.namelist())


def test_importing_the_client_imports_nothing_of_the_broker(bare):
    done = run(bare.bin / "python", "-W", "error", "-c", IMPORTED, cwd=bare.wheel.parent)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert {"wherry", "msgpack"} <= imported
    assert not imported & {*SERVER_ONLY, "wherry_broker"}


def test_the_client_works_with_msgpack_alone(bare, tmp_path):
    with Served(tmp_path) as broker:
        done = run(bare.bin / "python", "-W", "error", "-c", WORKING, broker.url, cwd=bare.wheel.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "bare one {'kind': 'greeting'}",
        "bare two {'kind': 'greeting'}",
        "{'settled': 2}",
    ]


def test_every_public_name_is_there(bare):
    code = "import wherry; print(all(hasattr(wherry, name) for name in wherry.__all__))"
    assert run(bare.bin / "python", "-c", code, cwd=bare.wheel.parent).stdout == "True\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("serve",), ("publish", "emails", "hello")])
def test_the_command_says_what_to_install(bare, arguments):
    done = run(bare.bin / "wherry", *arguments, cwd=bare.wheel.parent)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("wherry: ")
    assert "wherry[server]" in line
