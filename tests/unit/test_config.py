"""Settings: four sources, one winner each, an origin for every value, and errors that can be acted on."""

import pytest

from wherry_broker import config
from wherry_broker.config import MASK, Config, ConfigError, Settings, resolve


def value_of(resolved: Config, name):
    return next((value, origin) for key, value, origin in resolved.rows() if key == name)


def write(tmp_path, text, name="wherry.toml"):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_without_sources_everything_is_the_default():
    resolved = resolve({}, {})
    rows = {name: (value, origin) for name, value, origin in resolved.rows()}
    assert rows["port"] == (7117, "default")
    assert rows["queue.max_messages"] == (1_000_000, "default")
    assert all(origin.startswith("default") for _, origin in rows.values())
    assert resolved.warnings == ()


def test_each_source_beats_the_one_before(tmp_path):
    path = write(tmp_path, "port = 1\ndrain_s = 2\nlogin_s = 3\nlog_level = 'debug'\n[queue]\nmax_messages = 5\n")
    environ = {"WHERRY_CONFIG": path, "WHERRY_DRAIN_S": "20", "WHERRY_LOGIN_S": "30", "WHERRY_QUEUE_LEASE_MS": "500"}
    resolved = resolve({"login_s": "5m", "host": None, "queue.durability": "memory"}, environ)
    assert value_of(resolved, "port") == (1, f"file {path}")
    assert value_of(resolved, "drain_s") == (20.0, "environment WHERRY_DRAIN_S")
    assert value_of(resolved, "login_s") == (300.0, "flag --login-s")
    assert value_of(resolved, "host") == ("127.0.0.1", "default")
    assert value_of(resolved, "queue.max_messages") == (5, f"file {path}")
    assert value_of(resolved, "queue.lease_ms") == (500, "environment WHERRY_QUEUE_LEASE_MS")
    assert value_of(resolved, "queue.durability") == ("memory", "flag --durability")


def test_the_config_flag_beats_the_environments_file(tmp_path):
    first, second = write(tmp_path, "port = 1"), write(tmp_path, "port = 2", "other.toml")
    assert resolve({"config": second}, {"WHERRY_CONFIG": first}).settings.port == 2


def test_an_empty_variable_is_not_set():
    assert resolve({}, {"WHERRY_PORT": "", "WHERRY_TOKEN": ""}).settings == resolve({}, {}).settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("YES", True), ("on", True), ("1", True), ("false", False), ("no", False), ("0", False)],
)
def test_booleans_of_the_environment(text, expected):
    assert resolve({}, {"WHERRY_INSECURE": text}).settings.insecure is expected


def test_units_of_the_environment():
    environ = {
        "WHERRY_DRAIN_S": "1.5",
        "WHERRY_FRAME_BYTES_MAX": "1MiB",
        "WHERRY_QUEUE_MAX_BYTES": "2GiB",
        "WHERRY_QUEUE_TTL_MS": "1d",
        "WHERRY_QUEUE_RETRY_FACTOR": "1.5",
        "WHERRY_QUEUE_RATE_PER_S": "2.5",
        "WHERRY_QUEUE_KEY_WEIGHTS": "gold=4, silver=2",
        "WHERRY_QUEUE_BIND": "orders.>, users.*",
        "WHERRY_CONNECTIONS_MAX": "1_000",
    }
    settings = resolve({}, environ).settings
    assert (settings.drain_s, settings.frame_bytes_max, settings.connections_max) == (1.5, 1 << 20, 1_000)
    assert (settings.queue.max_bytes, settings.queue.ttl_ms) == (2 << 30, 86_400_000)
    assert (settings.queue.retry_factor, settings.queue.rate_per_s) == (1.5, 2.5)
    assert settings.queue.key_weights == {"gold": 4, "silver": 2}
    assert settings.queue.bind == ("orders.>", "users.*")


@pytest.mark.parametrize(
    ("flags", "environ", "parts"),
    [
        ({"port": "70000"}, {}, ["port '70000'", "0 to 65535", "flag --port"]),
        ({}, {"WHERRY_PORT": "many"}, ["port 'many'", "whole number", "environment WHERRY_PORT"]),
        ({}, {"WHERRY_PORT": "tcp://10.0.0.1:7117"}, ["environment WHERRY_PORT", "enableServiceLinks"]),
        ({}, {"WHERRY_INSECURE": "perhaps"}, ["insecure 'perhaps'", "true, yes", "WHERRY_INSECURE"]),
        ({}, {"WHERRY_DRAIN_S": "soon"}, ["drain_s 'soon'", "not a duration", "WHERRY_DRAIN_S"]),
        ({}, {"WHERRY_DRAIN_S": "-1"}, ["drain_s '-1'", "not a duration"]),
        ({}, {"WHERRY_LOG_LEVEL": "loud"}, ["log_level 'loud'", "debug, info, warning, error"]),
        ({}, {"WHERRY_QUEUE_LEASE_MS": "1"}, ["lease_ms 1 ", "10 to", "WHERRY_QUEUE_LEASE_MS"]),
        ({}, {"WHERRY_QUEUE_OVERFLOW": "burst"}, ["overflow 'burst'", "busy, drop_oldest"]),
        ({}, {"WHERRY_QUEUE_RETRY_FACTOR": "x"}, ["retry_factor 'x'", "not a number"]),
        ({}, {"WHERRY_QUEUE_KEY_WEIGHTS": "gold"}, ["key_weights 'gold'", "KEY=NUMBER"]),
        ({}, {"WHERRY_FRAME_BYTES_MAX": "big"}, ["frame_bytes_max 'big'", "not a size"]),
        ({}, {"WHERRY_TOKN": "x"}, ["WHERRY_TOKN", "did you mean WHERRY_TOKEN?"]),
        ({"prot": "1"}, {}, ["'prot'", "did you mean port?"]),
        ({"host": ""}, {}, ["host ''", "0.0.0.0", "flag --host"]),
        ({}, {"WHERRY_TOKEN": "x" * 1025}, ["1025 characters", "1024", "WHERRY_TOKEN"]),
    ],
)
def test_what_cannot_be_used_is_named_with_its_limit_and_origin(flags, environ, parts):
    with pytest.raises(ConfigError) as caught:
        resolve(flags, environ)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("prot = 1", ["'prot'", "did you mean port?", "file "]),
        ("port = '7117x'", ["port '7117x'", "file "]),
        ("port = true", ["port True", "not a int"]),
        ("host = 7", ["host 7", "not a str"]),
        ("[queue]\nlease = 1", ["'queue.lease'", "queue.lease_ms"]),
        ("[queue]\nmax_messages = 0", ["max_messages 0", "1 to"]),
        ("queue = 3", ["[queue]"]),
        ("port = ;\n", ["not valid TOML", "line 1"]),
        ("[server]\nport = 1", ["'server'"]),
    ],
)
def test_what_a_file_may_not_say(tmp_path, text, parts):
    with pytest.raises(ConfigError) as caught:
        resolve({"config": write(tmp_path, text)}, {})
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError, match=r"/nowhere/x\.toml cannot be read: No such file"):
        resolve({"config": "/nowhere/x.toml"}, {})


def test_a_variable_that_resembles_nothing_is_only_warned_of():
    assert resolve({}, {"WHERRY_MY_APP": "x"}).warnings == (
        "WHERRY_MY_APP is no setting of the broker, and is ignored",
    )


def test_what_kubernetes_sets_for_a_service_named_wherry_means_nothing():
    environ = {
        "WHERRY_SERVICE_HOST": "10.0.0.1",
        "WHERRY_SERVICE_PORT": "7117",
        "WHERRY_SERVICE_PORT_WIRE": "7117",
        "WHERRY_PORT_7117_TCP": "tcp://10.0.0.1:7117",
        "WHERRY_PORT_7117_TCP_ADDR": "10.0.0.1",
        "WHERRY_ADMIN_SERVICE_HOST": "10.0.0.2",
        "WHERRY_URL": "wherry://10.0.0.1",
    }
    assert resolve({}, environ).warnings == ()


# Tokens.


def test_a_token_is_shown_nowhere():
    resolved = resolve({}, {"WHERRY_TOKEN": "hunter2"})
    assert resolved.settings.token == "hunter2"
    assert value_of(resolved, "token") == (MASK, "environment WHERRY_TOKEN")
    assert "hunter2" not in repr(resolved)
    assert "hunter2" not in str(resolved.rows())


def test_a_token_of_a_wrong_type_is_not_shown_either(tmp_path):
    with pytest.raises(ConfigError) as caught:
        resolve({"config": write(tmp_path, "token = 123456")}, {})
    assert "123456" not in str(caught.value)


def test_a_token_cannot_be_a_flag():
    with pytest.raises(ConfigError, match="WHERRY_TOKEN or --token-file"):
        resolve({"token": "hunter2"}, {})


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_token_file_loses_its_line_end(tmp_path, end):
    path = write(tmp_path, f" a b {end}", "token")
    resolved = resolve({"token_file": path}, {})
    assert resolved.settings.token == " a b "
    assert value_of(resolved, "token") == (MASK, "flag --token-file")
    assert resolved.warnings == ()


def test_a_token_file_that_all_can_read_is_warned_of(tmp_path):
    path = write(tmp_path, "secret", "token")
    (tmp_path / "token").chmod(0o644)
    (warning,) = resolve({"token_file": path}, {}).warnings
    assert path in warning
    assert "chmod" in warning


def test_a_configuration_file_with_a_token_that_all_can_read_is_warned_of(tmp_path):
    path = write(tmp_path, "token = 'secret'")
    (tmp_path / "wherry.toml").chmod(0o644)
    assert len(resolve({"config": path}, {}).warnings) == 1


@pytest.mark.parametrize(("content", "problem"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")])
def test_a_token_file_without_a_token_is_an_error(tmp_path, content, problem):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=problem):
        resolve({"token_file": str(path)}, {})


def test_a_missing_token_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        resolve({"token_file": str(tmp_path / "none")}, {})


def test_the_later_of_token_and_token_file_wins(tmp_path):
    token = write(tmp_path, "from-file", "token")
    path = write(tmp_path, f"token_file = '{token}'")
    assert resolve({"config": path}, {}).settings.token == "from-file"
    assert resolve({"config": path}, {"WHERRY_TOKEN": "from-environ"}).settings.token == "from-environ"
    assert resolve({"token_file": token}, {"WHERRY_TOKEN": "from-environ"}).settings.token == "from-file"


def test_a_token_and_its_file_in_one_source_are_refused(tmp_path):
    path = write(tmp_path, "secret", "token")
    with pytest.raises(ConfigError, match="both given"):
        resolve({}, {"WHERRY_TOKEN": "x", "WHERRY_TOKEN_FILE": path})


# Open files.


def test_connections_fit_the_limit_of_open_files(monkeypatch):
    monkeypatch.setattr(config, "open_files_max", lambda: 1024)
    resolved = resolve({}, {})
    assert value_of(resolved, "connections_max") == (924, "default, as 1024 files may be open")
    with pytest.raises(ConfigError, match=r"connections_max '1000' is more than 924.*1024 open files"):
        resolve({"connections_max": "1000"}, {})


def test_without_a_limit_of_open_files_there_are_ten_thousand(monkeypatch):
    monkeypatch.setattr(config, "open_files_max", lambda: 0)
    assert resolve({}, {}).settings.connections_max == 10_000


def test_settings_cannot_be_altered():
    with pytest.raises(AttributeError):
        Settings().port = 1


POLICIES = """
[[policy]]
pattern = "emails.*"
max_messages = 100
ttl_ms = "1d"

[[policy]]
pattern = "emails.>"
max_messages = 5
"""


def test_policies_come_from_the_file_in_their_order(tmp_path):
    path = write(tmp_path, POLICIES)
    resolved = resolve({"config": path}, {})
    assert resolved.settings.policies == (
        ("emails.*", {"max_messages": 100, "ttl_ms": 86_400_000}),
        ("emails.>", {"max_messages": 5}),
    )
    assert resolved.path == path
    assert value_of(resolved, "policy.1.pattern") == ("emails.*", f"file {path}")
    assert value_of(resolved, "policy.1.ttl_ms") == (86_400_000, f"file {path}")
    assert value_of(resolved, "policy.2.max_messages") == (5, f"file {path}")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[policy]\npattern = 'a'", ["[[policy]]"]),
        ("[[policy]]\nmax_messages = 5", ["policy 1", "missing"]),
        ("[[policy]]\npattern = 5", ["policy 1", "5 is no text"]),
        ("[[policy]]\npattern = 'a.'", ["policy 1", "'a.' is not a pattern"]),
        ("[[policy]]\npattern = 'a'\nkind = 'store'", ["policy 1", "kind"]),
        ("[[policy]]\npattern = 'a'\n[[policy]]\npattern = 'b'\nmax_mesages = 5", ["policy 2", "max_messages"]),
        ("[[policy]]\npattern = 'a'\nlease_ms = 1", ["policy 1", "lease_ms 1 "]),
        ("[[policy]]\npattern = 'a'\nbind = ['.']", ["policy 1", "bind"]),
    ],
)
def test_a_policy_that_cannot_be_used_is_told(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        resolve({"config": path}, {})
    assert all(part in str(caught.value) for part in [*parts, path]), str(caught.value)
