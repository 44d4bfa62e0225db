"""`wherry worker`, as it is run: it begins, does jobs, replaces its processes, and ends in order."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager

import pytest

from serving import DEADLINE_S, Served

JOBS = """
import os, time
from wherry.tasks import Tasks

tasks = Tasks()

@tasks.task
def pid(n: int) -> int:
    return os.getpid()

@tasks.task
def slow(folder: str) -> str:
    open(folder + "/begun", "w").close()
    time.sleep(0.3)
    return "done"

@tasks.task(retries=1)
def dies(folder: str) -> str:
    if not os.path.exists(folder + "/died"):
        open(folder + "/died", "w").close()
        os.kill(os.getpid(), 9)
    return "lived"
"""
SEND = """
import jobs
print(jobs.{task}.send_sync({argument!r}).result({deadline}))
jobs.tasks.close_sync()
"""


@pytest.fixture
def served(tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS)
    with Served(tmp_path, "--resume-s", "0.1") as served:  # a worker that is killed comes back no more
        yield served


@contextmanager
def working(served, tmp_path, *options):
    """`wherry worker jobs`, ready; ended by SIGTERM."""
    log = (tmp_path / "worker.log").open("wb")
    with log, served.start("worker", "jobs", *options, cwd=tmp_path, stderr=log) as process:
        try:
            yield process, process.stdout.readline().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)
    assert process.returncode == 0, (tmp_path / "worker.log").read_text()


def send(served, tmp_path, task, argument=0):
    script = tmp_path / "send.py"
    script.write_text(SEND.format(task=task, argument=argument, deadline=DEADLINE_S))
    return served.sh(f"cd {tmp_path} && PYTHONPATH=$PYTHONPATH:. {sys.executable} send.py").strip()


def test_its_broker_is_that_of_the_calls(served, tmp_path):
    (tmp_path / "elsewhere.py").write_text(JOBS.replace("Tasks()", "Tasks('wherry://127.0.0.1:1')"))
    done = served.run("worker", "elsewhere", cwd=tmp_path)  # though WHERRY_URL names another one
    assert done.returncode == 3
    assert "no broker could be reached at 127.0.0.1:1:" in done.stderr
    with served.start("worker", "elsewhere", "--url", served.url, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith(b"wherry worker ready")
        process.terminate()


def test_it_says_what_it_does_and_does_it(served, tmp_path):
    with working(served, tmp_path, "--processes", "2", "--concurrency", "3") as (process, line):
        assert line == "wherry worker ready: 3 tasks in 3 queues, 2 x 3 jobs\n"
        assert int(send(served, tmp_path, "pid")) not in (0, process.pid)


def test_a_process_is_replaced_after_so_many_jobs(served, tmp_path):
    with working(served, tmp_path, "--max-jobs", "1"):
        assert len({send(served, tmp_path, "pid", n) for n in range(3)}) == 3


def test_a_process_that_dies_is_replaced_and_its_job_done_elsewhere(served, tmp_path):
    with working(served, tmp_path):
        assert send(served, tmp_path, "dies", str(tmp_path)) == "lived"


def test_sigterm_lets_jobs_end(served, tmp_path):
    with working(served, tmp_path) as (process, _):
        script = tmp_path / "begin.py"
        script.write_text(f"import jobs\nprint(jobs.slow.send_sync({str(tmp_path)!r}).id)\njobs.tasks.close_sync()\n")
        job = served.sh(f"cd {tmp_path} && PYTHONPATH=$PYTHONPATH:. {sys.executable} begin.py").strip()
        until_there(tmp_path / "begun")
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)
    assert "settled" in served.out("status", job)


def until_there(path):
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_begins_again_when_a_file_changes(served, tmp_path):
    with working(served, tmp_path, "--reload"):
        first = send(served, tmp_path, "pid")
        (tmp_path / "jobs.py").write_text(JOBS.replace("return os.getpid()", "return -os.getpid()"))
        deadline = time.monotonic() + DEADLINE_S
        while int(second := send(served, tmp_path, "pid")) > 0:
            assert time.monotonic() < deadline, (first, second)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nothing_there"], 2, "there is no module 'nothing_there' here"),
        (["jobs:other"], 2, "'jobs' has no 'other'; there is jobs:tasks"),
        (["jobs:JOBS"], 2, "'jobs' has no 'JOBS'"),
        (["jobs:os"], 2, "'jobs:os' is not a wherry.tasks.Tasks but of the type module; there is jobs:tasks"),
        (["jobs", "--queue", "nope"], 2, "no task of jobs has the queue 'nope'; they have jobs.dies, jobs.pid"),
        (["jobs", "--url", "wherry://127.0.0.1:1"], 3, "no broker could be reached at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(served, tmp_path, arguments, code, text):
    done = served.run("worker", *arguments, cwd=tmp_path)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
