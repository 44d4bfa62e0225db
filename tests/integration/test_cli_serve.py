"""`wherry serve` and `wherry config` as an operator has them: starting, refusing to start, and ending."""

from __future__ import annotations

import json
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from serving import DEADLINE_S, CommandLine, Served
from wherry.sync import connect

if TYPE_CHECKING:
    import subprocess
from typing import Self

REFUSED, USAGE, UNREACHABLE, LOG_FAILED = 1, 2, 3, 74
TOKEN = "a-planted-secret"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def wherry(tmp_path):
    return CommandLine(tmp_path)


def refusal(done: subprocess.CompletedProcess[str], code: int = USAGE) -> str:
    """What a broker says that does not start: one line."""
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("wherry: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def events(served: Served) -> list[str]:
    return [json.loads(line)["event"] for line in served.log.read_text("utf-8").splitlines()]


class Stuck:
    """A consumer that holds three messages: one that its reader takes only a part of, and two behind."""

    def __init__(self, served: Served) -> None:
        served.out("publish", "jobs", stdin=b"x" * 200_000)
        served.out("publish", "jobs", "behind")
        self.process = served.start("consume", "jobs")
        assert self.process.stdout.read(1) == b"x"
        served.out("publish", "jobs", "later")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def read_on(self) -> bytes:
        return self.process.stdout.readline()

    def until_written(self) -> None:
        """Returns once something stands in the pipe."""
        assert select.select([self.process.stdout], [], [], DEADLINE_S)[0]

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, err.decode()


def until_draining(served: Served) -> None:
    """Returns once the broker has said that it ends: it takes no new connections then."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", served.port)).close()
        except ConnectionError:
            return


def signal_and_wait_until_heard(served: Served, number: signal.Signals, handed_back: int) -> None:
    """Has the broker end, and returns once the consumer knows, since it has handed back what it had not begun.

    Until then it writes on, as fast as its reader takes it: that the broker takes no new connections says nothing yet.
    """
    with connect(served.url) as client:
        served.process.send_signal(number)
        give_up = time.monotonic() + DEADLINE_S
        while client.queue("jobs").info().ready != handed_back:
            assert time.monotonic() < give_up, served.log.read_text("utf-8")
        until_draining(served)
        assert served.process.poll() is None


# Starting.


def test_one_line_when_it_is_ready_and_a_log_beside_it(tmp_path):
    with Served(tmp_path) as served:
        assert served.out("ping").startswith(f"127.0.0.1:{served.port} ")
        served.process.terminate()
        assert served.process.stdout.read() == b""
    assert events(served) == ["broker_started", "broker_draining", "broker_stopped"]


def test_it_serves_without_standard_files(wherry):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = f"""
        wherry serve --port {port} <&- >&- 2>&- &
        broker=$!
        until wherry ping --url wherry://127.0.0.1:{port} 2>/dev/null; do :; done
        kill $broker
        wait $broker
    """
    assert f"127.0.0.1:{port} answers" in wherry.sh(script)


def test_a_port_that_is_taken(wherry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(wherry.run("serve", "--port", str(port)))
    assert f"127.0.0.1:{port}" in said
    assert "choose another --port" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "192.0.2.1", "--insecure"], ["192.0.2.1", "Cannot assign requested address"]),
        (["--host", "nowhere.invalid"], ["'nowhere.invalid'", "neither an address nor a name"]),
        (["--port", "65536"], ["port '65536'", "0 to 65535", "--port"]),
        (["--drain-s", "soon"], ["drain_s 'soon'", "duration", "--drain-s"]),
        (["--durability", "synced"], ["'synced'", "'memory'", "--data DIR"]),
        (["--config", "/nowhere.toml"], ["/nowhere.toml", "No such file"]),
        (["--token-file", "/nowhere.token"], ["/nowhere.token", "No such file"]),
        (["--token", TOKEN], ["--token"]),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(wherry, flags, words):
    said = refusal(wherry.run("serve", "--port", "0", *flags))
    assert [word for word in words if word not in said] == []
    assert TOKEN not in said


def test_a_log_that_cannot_be_used(wherry):
    said = refusal(wherry.run("serve", "--port", "0", "--data", "/proc/nowhere"), LOG_FAILED)
    assert "the log in /proc/nowhere cannot be used" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_this_machine_it_asks_for_a_token(wherry, host):
    said = refusal(wherry.run("serve", "--port", "0", "--host", host))
    assert [
        word for word in (host, "WHERRY_TOKEN", "--token-file", "127.0.0.1", "--insecure") if word not in said
    ] == []


def test_insecure_overrides_that(tmp_path):
    with Served(tmp_path, "--host", "0.0.0.0", "--insecure") as served:
        served.out("ping")


def test_a_token_of_the_environment(tmp_path, wherry):
    with Served(tmp_path, "--host", "0.0.0.0", WHERRY_TOKEN=TOKEN) as served:
        served.out("ping")
        for token in ("", f"{TOKEN}x"):
            stranger = served.run("ping", environ={"WHERRY_TOKEN": token})
            assert (stranger.returncode, stranger.stdout) == (REFUSED, "")
            assert "set WHERRY_TOKEN, or pass --token-file FILE" in stranger.stderr
            assert stranger.stderr.count("\n") == 1
            assert TOKEN not in stranger.stderr
        in_url = {"WHERRY_TOKEN": "", "WHERRY_URL": f"wherry://{TOKEN}@127.0.0.1:{served.port}"}
        assert TOKEN not in served.run("ping", environ=in_url).stdout
    assert TOKEN not in served.log.read_text("utf-8")


def test_a_token_of_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", "utf-8")
    file.chmod(0o644)
    with Served(tmp_path, "--token-file", str(file)) as served:
        served.out("--token-file", str(file), "ping")
        served.out("ping", "--token-file", str(file))
        assert served.run("ping", environ={"WHERRY_TOKEN_FILE": str(file)}).returncode == 0
        assert served.run("ping", environ={"WHERRY_TOKEN": TOKEN}).returncode == 0
        assert served.run("ping").returncode == REFUSED
    log = served.log.read_text("utf-8")
    assert f"chmod o-r {file}" in log
    assert TOKEN not in log


# Ending.


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it_once_clients_have_settled(tmp_path, number):
    data = str(tmp_path / "data")
    with Served(tmp_path, "--data", data, "--drain-s", str(DEADLINE_S)) as served, Stuck(served) as stuck:
        signal_and_wait_until_heard(served, number, handed_back=2)
        assert len(stuck.read_on()) == 200_000
        assert served.process.wait(DEADLINE_S) == 0
        assert stuck.end() == (REFUSED, "wherry: the broker is shutting down\n")
    assert "drain_timed_out" not in events(served)
    with Served(tmp_path, "--data", data) as again:
        found = again.out("consume", "jobs", "--wait", "0", "--json").splitlines()
        assert [(each["body"], each["attempt"]) for each in map(json.loads, found)] == [("behind", 1), ("later", 1)]


def test_it_waits_for_what_stands_in_a_pipe(tmp_path):
    """A reader took a message before the consumer had heard that the broker ends: the next one is in the pipe then."""
    data = str(tmp_path / "data")
    with Served(tmp_path, "--data", data, "--drain-s", str(DEADLINE_S)) as served, Stuck(served) as stuck:
        assert len(stuck.read_on()) == 200_000
        stuck.until_written()
        signal_and_wait_until_heard(served, signal.SIGTERM, handed_back=1)
        assert stuck.read_on() == b"behind\n"
        assert served.process.wait(DEADLINE_S) == 0
        assert stuck.end() == (REFUSED, "wherry: the broker is shutting down\n")
    with Served(tmp_path, "--data", data) as again:
        assert again.out("consume", "jobs", "--wait", "0") == "later\n"


def test_it_waits_no_longer_than_it_was_told(tmp_path):
    with Served(tmp_path, "--drain-s", "2s") as served, Stuck(served) as stuck:
        assert served.stop() == 0
        assert stuck.end()[0] == UNREACHABLE
    assert events(served)[-3:] == ["broker_draining", "drain_timed_out", "broker_stopped"]
    told = json.loads(served.log.read_text("utf-8").splitlines()[-2])
    assert told["leased"] == 1  # what is not begun to be written was handed back at once


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_it_at_once(tmp_path, number):
    served = Served(tmp_path, "--drain-s", str(DEADLINE_S))
    with Stuck(served) as stuck:
        served.process.send_signal(number)
        until_draining(served)
        assert served.stop(number) == 128 + number
        assert stuck.end()[0] == UNREACHABLE
    assert events(served)[-1] == "broker_stopped_at_once"


# Settings.


def settings_of(text: str) -> dict[str, tuple[str, str]]:
    rows = [line.split("\t") for line in text.splitlines()]
    return {name: (value, origin) for name, value, origin in rows}


def test_config_tells_every_value_and_where_it_came_from(wherry, tmp_path):
    file = tmp_path / "wherry.toml"
    file.write_text('drain_s = 5\nlogin_s = 5\ntoken = "a-planted-secret"\n[queue]\nlease_ms = 1000\n', "utf-8")
    file.chmod(0o600)
    environ = {"WHERRY_LOGIN_S": "6", "WHERRY_QUEUE_MAX_BYTES": "1MiB"}
    done = wherry.run("config", "--config", str(file), environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    found = settings_of(done.stdout)
    assert {name: found[name] for name in ("port", "drain_s", "login_s", "queue.lease_ms", "queue.max_bytes")} == {
        "port": ("7117", "default"),
        "drain_s": ("5.0", f"file {file}"),
        "login_s": ("6.0", "environment WHERRY_LOGIN_S"),
        "queue.lease_ms": ("1000", f"file {file}"),
        "queue.max_bytes": ("1048576", "environment WHERRY_QUEUE_MAX_BYTES"),
    }
    assert found["token"] == ("********", f"file {file}")
    told = json.loads(wherry.run("config", "--json", environ={"WHERRY_CONFIG": str(file)}).stdout)
    assert told["drain_s"] == {"value": 5.0, "from": f"file {file}"}
    assert told["token"]["value"] == "********"


def test_a_flag_goes_before_the_environment(tmp_path):
    with Served(tmp_path, "--log-level", "debug", WHERRY_PORT="1", WHERRY_LOG_LEVEL="error") as served:
        assert served.port != 1
    assert "broker_started" in events(served)


def test_sighup_has_policies_read_anew(tmp_path):
    file = tmp_path / "wherry.toml"
    file.write_text("[[policy]]\npattern = 'emails.*'\nmax_messages = 5\n")
    with Served(tmp_path, "--config", str(file)) as served:

        def reload(text: str, event: str) -> dict[str, object]:
            """Has the file read again, and waits until the broker says so."""
            file.write_text(text)
            seen = served.log.read_text("utf-8").count(event)
            served.process.send_signal(signal.SIGHUP)
            give_up = time.monotonic() + DEADLINE_S
            while (log := served.log.read_text("utf-8")).count(event) == seen:
                assert time.monotonic() < give_up, log
                time.sleep(0.01)
            return json.loads(next(line for line in reversed(log.splitlines()) if event in line))

        def bound() -> int:
            return json.loads(served.out("queue", "info", "emails.a", "--json"))["options"]["max_messages"]

        served.out("queue", "declare", "emails.a")
        assert bound() == 5
        told = reload("drain_s = 3\n[[policy]]\npattern = 'emails.*'\nmax_messages = 6\n", "queues_changed")
        assert (told["queues"], bound()) == (["emails.a"], 6)
        assert "config_takes_effect_at_the_next_start" in events(served)
        told = reload("[[policy]]\npattern = 'emails.*'\nmax_messages = 0\n", "config_refused")
        assert "policy 1" in told["text"]
        told = reload("[[policy]]\npattern = '>'\ndurability = 'synced'\n", "config_refused")
        assert ("policy 1" in told["text"], "'memory'" in told["text"], bound()) == (True, True, 6)


def test_config_complains_as_the_broker_would(wherry):
    done = wherry.run("config", environ={"WHERRY_PROT": "7000"})
    assert "WHERRY_PORT" in refusal(done)
    done = wherry.run("config", environ={"WHERRY_TEAM": "blue"})
    assert done.returncode == 0
    assert done.stderr == "wherry: WHERRY_TEAM is no setting of the broker, and is ignored\n"
