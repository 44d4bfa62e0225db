"""What only the blocking client has: threads, forks, signals, gevent, and no event loop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import wherry
from patience import PATIENCE_S
from serving import Served
from wherry import sync
from wherry.conversation.pending import Awaited

SCRIPTS = Path(__file__).parent / "sync_scripts"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def broker(served):
    with sync.connect(served.url, timeout=PATIENCE_S) as broker:
        yield broker


@pytest.fixture
def queue(broker, request):
    return broker.declare(request.node.name)


def until(true) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it does not come to be so"
        time.sleep(0.001)


def script(served, name: str, *arguments: str) -> str:
    """Runs a script of this folder, and returns what it wrote."""
    command = [sys.executable, "-X", "dev", "-W", "error", str(SCRIPTS / name), served.url, *arguments]
    environ = {**served.environ, "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=3 * PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# No event loop.


@pytest.mark.parametrize("module", ["wherry", "wherry.sync"])
def test_it_imports_no_event_loop(module):
    """The asyncio client is imported when it is asked for."""
    code = f"import sys, {module}; print({{'asyncio', 'concurrent', 'wherry.aio'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_it_has_no_thread(broker, queue):
    before = threading.active_count()
    queue.publish(b"x")
    with queue.consume() as consumer:
        next(consumer).ack().wait()
        assert threading.active_count() == before


# Threads.


def test_many_threads_share_one_connection(broker, queue):
    count, each = 32, 25
    receipts: list[wherry.Receipt] = []
    done: Counter[bytes] = Counter()
    consumer = queue.consume(credit=50)

    def publish(number: int) -> None:
        receipts.extend(queue.publish(f"{number} {step}") for step in range(each))

    def work() -> None:
        for message in consumer:
            with message:
                done[message.body] += 1
            if sum(done.values()) == count * each:
                consumer.stop()

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(count)]
    threads += [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
        assert not thread.is_alive()
    assert sorted(each.offset for each in receipts) == list(range(1, count * each + 1))
    assert len({(each.offset) for each in receipts}) == count * each
    assert set(done.values()) == {1}
    assert queue.info().removed == {"settled": count * each}


def test_receipts_are_those_of_the_messages_of_each_thread(queue):
    found: dict[str, int] = {}

    def publish(number: int) -> None:
        for step in range(50):
            body = f"{number} {step}"
            found[body] = queue.publish(body).offset

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    assert {each.body.decode(): each.offset for each in queue.peek(400)} == found


def test_the_reader_hands_over_to_one_that_waits_longer(broker, queue):
    """The first that waits reads for all; once its time is over another one reads on."""
    consumer = queue.consume()
    found: list[bytes] = []
    waiting = threading.Thread(target=lambda: found.append(next(consumer).body))
    short = threading.Thread(target=lambda: queue.get(wait=0.05))
    short.start()
    waiting.start()
    short.join(PATIENCE_S)
    with sync.connect(broker_url(broker)) as other:
        other.queue(queue.name).publish(b"x")
    waiting.join(PATIENCE_S)
    assert found == [b"x"]
    consumer.stop()


def broker_url(broker: sync.Broker) -> str:
    address = broker._link._itinerary.address
    return f"wherry://{address.host}:{address.port}"


def test_a_request_has_its_own_time_though_another_thread_reads(served):
    """Who sleeps while another one reads notices by itself that its time is over."""
    with silent_after_welcome() as url:
        broker = sync.connect(url, timeout=PATIENCE_S)
        consumer = broker.queue("q").consume()
        failed: list[BaseException] = []

        def wait() -> None:
            try:
                next(consumer)
            except wherry.WherryError as error:
                failed.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: broker._link.turns._reading)
        began = time.monotonic()
        with pytest.raises(wherry.RequestTimeout):
            broker._link.call(lambda waiter, end: broker._link.conversation.stop(99, waiter, end), timeout=0.05)
        assert time.monotonic() - began < PATIENCE_S / 2
        broker._link.abort(wherry.Disconnected("the test is over"))
        thread.join(PATIENCE_S)
        assert [type(each) for each in failed] == [wherry.Disconnected]


class silent_after_welcome:  # noqa: N801 (it is used as a function)
    """A broker that accepts a connection, and says nothing more."""

    def __enter__(self) -> str:
        from wherry.model import replies  # noqa: PLC0415
        from wherry.wire import codec  # noqa: PLC0415

        self.server = socket.create_server(("127.0.0.1", 0))
        self.kept: list[socket.socket] = []

        def serve() -> None:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.kept.append(connection)
            connection.recv(4096)
            connection.sendall(codec.encode(replies.Welcome(1, 1, 0, 1 << 24, "silent")))

        self.thread = threading.Thread(target=serve)
        self.thread.start()
        return f"wherry://127.0.0.1:{self.server.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.thread.join()
        for connection in self.kept:
            connection.close()


def test_who_waits_asks_a_silent_broker_for_a_sign_of_life(monkeypatch):
    monkeypatch.setattr("wherry.sync.carrier.HEARTBEAT_S", 0.05)
    with silent_after_welcome() as url:
        broker = sync.connect(url, timeout=PATIENCE_S)
        with pytest.raises(wherry.Disconnected, match="silent"):
            broker.ping()
        assert broker.status == "closed"


def test_a_broker_that_answers_is_not_called_silent(broker, queue, monkeypatch):
    monkeypatch.setattr("wherry.sync.carrier.HEARTBEAT_S", 0.02)
    assert queue.get(wait=0.2) == []
    assert broker.status == "connected"


# Leases.


def test_a_lease_is_as_long_as_a_handler_may_take(queue):
    """Nothing extends it while the only thread is at work."""
    queue.publish_many([b"x"] * 3)
    for options, least in (({}, 20), ({"max_lease": 600}, 590), ({"lease": 100, "max_lease": 600}, 90)):
        (message,) = queue.get(wait=PATIENCE_S, **options)
        left = queue.find(message.id).due_at - datetime.now(UTC)
        assert timedelta(seconds=least) < left < timedelta(seconds=least + 15)


# Signals.


def test_stop_may_be_called_by_the_handler_of_a_signal(broker, queue):
    consumer = queue.consume()
    before = signal.signal(signal.SIGUSR1, lambda *_: consumer.stop())
    try:
        queue.publish(b"x")
        sender = threading.Thread(target=end_once_it_waits, args=(broker,))
        sender.start()
        assert [message.body for message in consumer if message.ack()] == [b"x"]
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert queue.info().consumers == 0


def end_once_it_waits(broker: sync.Broker) -> None:
    until(lambda: broker._link.turns._reading)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGUSR1)


def test_stop_in_a_handler_while_the_thread_holds_the_lock(broker, queue):
    """It waits for nothing then; what is to be said is said when a thread comes by."""
    queue.publish_many([b"x"] * 3)
    consumer = queue.consume()
    next(consumer).ack()
    with broker._link.turns.lock:
        consumer.stop()
    assert list(consumer) == []
    until(lambda: queue.info().consumers == 0)
    assert queue.info().ready == 2


def test_ctrl_c_leaves_a_connection_that_works(broker, queue):
    consumer = queue.consume()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        sender = threading.Thread(target=end_once_it_waits, args=(broker,))
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            next(consumer)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    queue.publish(b"x")
    assert next(consumer).body == b"x"
    consumer.stop()


def test_ctrl_c_while_a_result_is_waited_for_leaves_nothing_to_wait_for(broker, queue):
    receipt = queue.publish(b"never done", track=True)
    conversation, before = broker._link.conversation, signal.getsignal(signal.SIGUSR1)

    def interrupt(*_: object) -> None:
        assert [type(each) for each in conversation._unanswered.values()] == [Awaited]
        raise KeyboardInterrupt

    signal.signal(signal.SIGUSR1, interrupt)
    try:
        sender = threading.Thread(target=end_once_it_waits, args=(broker,))
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            receipt.result()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert conversation.unanswered == 0
    assert receipt.status().state == "ready"


def test_a_thread_that_was_interrupted_midway_ends_the_connection(broker, queue, monkeypatch):
    """What it was told may be lost, so nobody waits for it in vain."""
    link = broker._link

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wherry.sync.carrier.tell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.publish(b"x")
    with pytest.raises(wherry.Disconnected, match="interrupted"):
        queue.publish(b"y")
    assert not link.turns._reading


# Processes.


def test_a_fork_has_a_connection_of_its_own(served):
    assert script(served, "fork.py").splitlines() == [
        "child: Disconnected: this process was forked: the consumer belongs to its parent",
        "child: Disconnected: this process was forked: the message belongs to its parent",
        "child: published 2",
        "child ended with 0",
        "parent: published 3",
        "parent: took b'2'",
        "parent: took b'3'",
        "settled 3",
    ]


def test_a_pool_of_forked_processes(served):
    assert script(served, "pool.py").splitlines() == ["80 stored, 80 taken"]


def test_gevent(served):
    pytest.importorskip("gevent", reason="gevent is not installed: the blocking client is not tested under it")
    assert script(served, "under_gevent.py").splitlines() == [
        "200 published, 200 settled, 1 connection",
        "who slept was not kept from it",
        "a timeout left the connection as it was",
    ]
