"""`wherry task`, as a user has it: every command, its output, and its exit codes."""

from __future__ import annotations

import json
import signal
import sys
from functools import partial

import pytest

import wherry.sync
from serving import DEADLINE_S, Served
from wherry_broker.cli import root

DONE, REFUSED, USAGE, UNREACHABLE, TIMED_OUT = range(5)
SHOP = """
import asyncio
from datetime import datetime
from decimal import Decimal
from wherry.tasks import Tasks, current

tasks = Tasks()

@tasks.task(retries=5, timeout=60)
async def price(fruit: str, count: int = 1) -> int:
    return {"apple": 2, "pear": 3}[fruit] * count

@tasks.task(queue="orders", give_up_on=(ValueError,))
def refund(order: int, amount: Decimal = Decimal(1)) -> str:
    if order == 17:
        raise ValueError(f"order {order} was not paid")
    return f"{amount} for {order}"

@tasks.task(queue="orders")
async def wait(seconds: float) -> None:
    current().progress(0.5, "half way")
    await asyncio.sleep(seconds)

@tasks.task(max_leased=3)
def when() -> dict:
    return {"at": datetime(2026, 5, 1), "parts": (1, 2)}

@tasks.task
def nobody_does_this(text: str) -> None: ...

@tasks.cron("0 3 * * *", zone="Europe/Paris")
def nightly() -> None: ...
"""
APPLICATIONS = ("shop", "broken", "placed")
WAIT = ("--wait", str(DEADLINE_S))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    (folder / "broken.py").write_text("import nothing_there\n")
    return folder


@pytest.fixture(scope="module")
def served(folder):
    with Served(folder) as served:
        command = ("worker", "shop", "--queue", "shop.price", "--queue", "shop.when", "--queue", "orders")
        log = (folder / "worker.log").open("wb")
        with log, served.start(*command, cwd=folder, stderr=log) as worker:
            assert worker.stdout.readline()
            yield served
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(DEADLINE_S) == 0


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs `wherry` in this process, which is faster; returns the exit code and what it wrote."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])

    def run(*arguments):
        code = root.run(arguments)
        return code, "".join(capsys.readouterr())

    yield run
    for name in APPLICATIONS:
        sys.modules.pop(name, None)


@pytest.fixture
def task(run, served, monkeypatch):
    """Runs `wherry task`."""
    monkeypatch.setenv("WHERRY_URL", served.url)
    return partial(run, "task")


def sent(task, *arguments):
    """The id of a job that was sent."""
    code, out = task("send", "shop", *arguments)
    assert code == DONE, out
    return out.strip()


def test_a_job_is_sent_and_its_result_printed(served, folder):
    job = served.sh(f"cd {folder} && wherry task send shop shop.price apple --kw count=3").strip()
    assert job.startswith("shop.price/")
    assert served.out("task", "result", job, *WAIT) == "6\n"
    assert json.loads(served.out("--json", "task", "result", job)) == {"id": job, "result": 6}


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("shop", "price", "pear", "2"), "6\n"),
        (("shop:tasks", "refund", "18", "3.10"), "3.10 for 18\n"),
        (("shop", "when"), '{"at": "2026-05-01T00:00:00", "parts": [1, 2]}\n'),
        (("shop", "wait", "0"), "null\n"),
        (("--queue", "shop.price", "shop.price", "apple", "--kw", "count=4"), "8\n"),
    ],
)
def test_a_job_is_sent_and_waited_for(task, arguments, printed):
    assert task("send", *arguments, *WAIT) == (DONE, printed)


def test_a_job_that_failed(task):
    job = sent(task, "refund", "17")
    why = "it is dead: rejected: ValueError: order 17 was not paid"
    assert task("result", job, *WAIT) == (REFUSED, f"wherry: message {job} has no result: {why}\n")
    code, out = task("status", job, "--json")
    status = json.loads(out)
    assert (code, status["state"], status["why"], status["task"]) == (DONE, "dead", why, "shop.refund")
    assert (status["arguments"], status["attempts"]) == ("17", 1)
    assert [event["what"] for event in status["history"]] == ["published", "leased", "dead"]


def test_the_status_of_a_job_that_was_done(task):
    job = sent(task, "when")
    assert task("result", job, *WAIT)[0] == DONE
    code, out = task("status", job, "--json")
    status = json.loads(out)
    result = {"at": "2026-05-01T00:00:00", "parts": [1, 2]}
    assert (code, status["state"], status["result"], "task" in status) == (DONE, "settled", result, False)
    lines = dict(line.split("\t", 1) for line in task("status", job)[1].splitlines())
    assert (lines["result"], lines["id"]) == (json.dumps(result), job)


def test_a_job_that_waits_is_looked_at_and_cancelled(task):
    job = sent(task, "nobody_does_this", "17", "--priority", "9", "--key", "ann", "--delay", "1h")
    assert task("result", job)[0] == TIMED_OUT
    assert task("send", "shop", "nobody_does_this", "x", "--delay", "1h", "--wait", "0.01")[0] == TIMED_OUT
    (row,) = json.loads(task("jobs", "shop.nobody_does_this", "--limit", "1", "--json")[1])
    assert (row["id"], row["state"], row["task"]) == (job, "delayed", "shop.nobody_does_this")
    assert (row["arguments"], row["priority"], row["key"]) == ({"args": ["17"], "kwargs": {}}, 9, "ann")
    assert task("cancel", job) == (DONE, f"{job} cancelled\n")
    assert task("cancel", job) == (REFUSED, f"{job} is not there\n")
    assert task("result", job)[0] == REFUSED


def test_what_a_job_has_sent_is_cancelled_with_it(task, served):
    with wherry.sync.connect(served.url) as broker:
        parent = broker.queue("family").publish(b"x").id
        broker.queue("others").publish(b"y", parent=parent)
    assert task("cancel", parent) == (DONE, f"{parent} cancelled, with what has come of it: 2 messages in all\n")


def test_a_job_that_runs_is_cancelled(task):
    job = sent(task, "wait", "3600")
    while "half way" not in task("status", job)[1]:
        pass
    assert task("cancel", job) == (DONE, f"{job} cancelled\n")
    assert task("result", job, *WAIT)[0] == REFUSED


def test_jobs_of_a_shared_queue_are_told_apart(task, served):
    served.out("publish", "mixed", "no job")
    assert task("send", "--queue", "mixed", "shop.one", "[1, 2]", "--kw", "name=x")[0] == DONE
    assert task("send", "--queue", "mixed", "shop.other")[0] == DONE
    rows = [line.split("\t")[:4] for line in task("jobs", "mixed")[1].splitlines()]
    assert rows == [
        ["mixed/1", "ready", "", ""],
        ["mixed/2", "ready", "shop.one", '[1,2], name="x"'],
        ["mixed/3", "ready", "shop.other", ""],
    ]
    (row,) = task("jobs", "mixed", "--task", "shop.one", "--state", "ready")[1].splitlines()
    assert row.startswith("mixed/2\t")
    assert task("jobs", "mixed", "--state", "dead") == (DONE, "")
    assert task("jobs", "not.there")[0] == REFUSED


def test_what_was_sent_twice_under_one_dedupe_key(task):
    assert len({sent(task, "nobody_does_this", "x", "--dedupe", "one") for _ in range(2)}) == 1


def test_the_tasks_of_an_application(task):
    code, out = task("list", "shop", "--json")
    rows = {row["task"]: row for row in json.loads(out)}
    assert (code, list(rows)) == (DONE, sorted(rows))
    assert rows["shop.price"]["options"] == {"retries": 5, "timeout": 60}
    assert rows["shop.refund"]["options"] == {"give_up_on": ["ValueError"]}
    assert rows["shop.when"]["options"] == {"max_leased": 3}
    assert (rows["shop.refund"]["queue"], rows["shop.refund"]["consumers"]) == ("orders", 1)
    assert rows["shop.nobody_does_this"]["consumers"] == 0
    lines = task("list", "shop:tasks")[1].splitlines()
    schedule = 'cron="0 3 * * *" zone=Europe/Paris missed=once overlap=skip'
    assert lines[0] == f"shop.nightly\tshop.nightly\t0\t0\t0\t0\t0\t{schedule}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("list",), "Missing argument"),
        (("list", "nothing_there"), "there is no module 'nothing_there' here"),
        (
            ("list", "broken"),
            "broken cannot be imported: ModuleNotFoundError: No module named 'nothing_there' at",
        ),
        (("list", "shop:SHOP"), "'shop' has no 'SHOP'"),
        (("send", "shop"), "name the application and the task"),
        (("send", "shop", "prise", "x"), "shop has no task 'prise': is it price?"),
        (("send", "shop", "zzz"), "shop has no task 'zzz': see `wherry task list shop`"),
        (("send", "shop", "price"), "task 'shop.price': missing a required argument: 'fruit'"),
        (("send", "shop", "price", "x", "three"), "task 'shop.price', parameter 'count': 'three' is no int"),
        (("send", "shop", "price", "x", "[3"), "task 'shop.price', argument 2: '[3' is no JSON"),
        (("send", "shop", "refund", "1", "--kw", "amount=x"), "parameter 'amount': 'x' is no Decimal"),
        (
            ("send", "shop", "price", "x", "--kw", "size=3"),
            "got an unexpected keyword argument 'size'",
        ),
        (("send", "--queue", "q", "name", "{"), "'{' is no JSON"),
        (("send", "shop", "price", "-1"), "No such option"),
        (("result", "x"), "is no id of a message"),
        (("status", "shop.price/x"), "is no id of a message"),
        (("cancel",), "Missing argument"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(run, arguments, text):
    code, said = run("task", *arguments)
    assert (code, text in said, said.count("\n")) == (USAGE, True, 1), said


@pytest.mark.parametrize("command", [("status", "nowhere/1"), ("result", "nowhere/1"), ("cancel", "nowhere/1")])
def test_a_job_that_never_was(task, command):
    assert task(*command)[0] == REFUSED


def test_a_result_that_is_no_tasks(task, served):
    with wherry.sync.connect(served.url) as broker:
        broker.queue("raw").publish(b"x", track=True)
        (message,) = broker.queue("raw").get(wait=DEADLINE_S)
        message.ack(result=b"\xc1").wait()
    code, said = task("result", "raw/1")
    assert (code, said) == (
        REFUSED,
        "wherry: the result of raw/1 is not that of a task: `wherry result raw/1` prints its bytes\n",
    )


@pytest.mark.parametrize(
    "words", ["list shop", "jobs q", "send shop when", "send --queue q x", "status q/1", "result q/1", "cancel q/1"]
)
def test_without_a_broker(run, words):
    said = "wherry: nothing listens at 127.0.0.1:1: is `wherry serve` running there?\n"
    assert run("task", *words.split(), "--url", "wherry://127.0.0.1:1") == (UNREACHABLE, said)


def test_the_address_of_the_application_is_that_of_its_tasks(run, folder, served):
    (folder / "placed.py").write_text(SHOP.replace("Tasks()", f"Tasks({served.url!r}, prefix='shop')"))
    assert run("task", "send", "placed", "price", "apple", *WAIT) == (DONE, "2\n")
    assert run("--url", "wherry://127.0.0.1:1", "task", "send", "placed", "price", "apple")[0] == UNREACHABLE
