"""The README tells the truth: its examples run as they stand there, its links lead on; and so does the page of options.

A fenced block is known by the word after its language, as in "```sh try".
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from installing import ROOT, need_index, plain_environ, run, skip_loudly
from serving import DEADLINE_S, Served
from wherry_broker.core.options import QueueOptions

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = {match[2]: match[3] for match in re.finditer(r"^```(\w+) (\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)}
URL = "wherry://localhost:7117"
"""What the examples say; here it becomes the address of a broker on a free port."""


def python(served: Served, code: str) -> subprocess.Popen[str]:
    assert URL in code
    command = [sys.executable, "-W", "error", "-c", code.replace(URL, served.url)]
    return subprocess.Popen(command, env=served.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path) as broker:
        yield broker


def test_the_command_line_examples_run(served):
    lines = served.sh(BLOCKS["try"]).splitlines()
    assert lines[0].split()[:2] == ["greetings", "1001"]
    assert lines[-1] == "1000"


def test_the_python_example_runs(served):
    process = python(served, BLOCKS["example"])
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (0, "")
    assert out == "b'hello' {'kind': 'welcome'} 1\n"
    assert served.sh("wherry queue list").split()[:5] == ["emails", "0", "0", "0", "0"]


def test_the_worker_runs_until_it_is_interrupted(served):
    with python(served, BLOCKS["worker"]) as process:
        try:
            served.sh("wherry publish emails one two")
            lines = [process.stdout.readline() for _ in range(2)]
        finally:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    assert [line.split()[1] for line in lines] == ["one", "two"]


def test_the_tasks_are_done_by_a_worker(served, tmp_path):
    (tmp_path / "shop.py").write_text(BLOCKS["shop"].replace(URL, served.url), "utf-8")
    both = "wherry worker shop:tasks >worker.out 2>&1 & {} shop.py; kill $!; wait"
    told = served.sh(f"cd {tmp_path}; {both.format(sys.executable)}")
    assert told.splitlines()[1:] == ["6"]
    assert told.splitlines()[0] in {"ready", "leased", "settled"}


def test_a_data_directory_keeps_what_was_confirmed(tmp_path):
    broker = Served(tmp_path, "--data", str(tmp_path / "data"))
    try:
        broker.sh("wherry publish greetings hello")
    finally:
        broker.stop(signal.SIGKILL)
    with Served(tmp_path, "--data", str(tmp_path / "data")) as again:
        assert again.sh("wherry consume greetings --count 1 --wait 10") == "hello\n"
        assert "durability\tsynced" in again.sh("wherry queue info greetings")


@pytest.mark.slow
def test_the_serve_command_serves_from_a_bare_checkout(tmp_path_factory):
    need_index(tmp_path_factory.mktemp("probe"))
    checkout = tmp_path_factory.mktemp("checkout")
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT)
    if listed.returncode:
        skip_loudly(f"this is no git checkout: {listed.stderr.strip()}")
    for name in listed.stdout.splitlines():
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    process = subprocess.Popen(
        ["bash", "-c", BLOCKS["serve"]],
        cwd=checkout,
        env=plain_environ() | {"WHERRY_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            if line.startswith("wherry ready on 127.0.0.1:"):
                break
        else:
            pytest.fail("".join(seen[-20:]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)


def test_the_options_are_those_of_the_core():
    page = (ROOT / "docs/options.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", page, re.MULTILINE)
    told = [(name, value.replace(",", "")) for name, value in rows]
    real = QueueOptions().as_map()
    assert told == [
        (name, str(value).lower() if isinstance(value, bool) else str(value).replace("()", "[]"))
        for name, value in real.items()
    ]


def test_the_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_readme_is_short():
    assert README.count("\n") < 200
