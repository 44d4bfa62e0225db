"""The broker's settings: one frozen dataclass, and where each value came from.

Sources, the later ones winning: the default, a TOML file (`--config FILE`, or WHERRY_CONFIG), the environment
(WHERRY_ and the setting's name in capitals), a flag of `wherry serve`. The default options of a queue stand in the
file's table `[queue]`, and in the environment as WHERRY_QUEUE_ and the option's name. Those of queues whose names match
a pattern stand in the file only, as tables `[[policy]]`, each with its `pattern`; see `core.policies`.

Laws: a value that cannot be used is an error that names the key, the value, what is allowed, and where it came from;
nothing is silently replaced. A token is never shown, and never comes from the command line, where everyone on the
machine can read it. An empty variable of the environment counts as not set.
"""

from __future__ import annotations

import difflib
import re
import resource
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from wherry.model.fields import TEXT_BYTES_MAX
from wherry.model.names import pattern_problem
from wherry.wire.framing import FRAME_BYTES_MAX
from wherry_broker.core.ledger import RESIDENT_BYTES_MAX
from wherry_broker.core.options import InvalidOption, QueueOptions, checked
from wherry_broker.core.policies import Policy
from wherry_broker.log.file import SEGMENT_BYTES
from wherry_broker.tokens import TokenFileError, read_token
from wherry_broker.units import duration_ms, size_bytes

PREFIX = "WHERRY_"
MASK = "********"
DEFAULT = "default"
"""The origin of a value that nobody has set."""
CONNECTIONS_MAX = 10_000
OTHER_FILES = 100
"""Open files that are kept back for what is no connection: the listening socket, the log, the event loop."""
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "pretty", "json")

_OTHERS = frozenset({"url", "config", "traceback"})
"""What else WHERRY_ names: the client's URL, this configuration's file, and whether a bug shows its traceback."""
_KUBERNETES = re.compile(r"(.*_)?(service_(host|port)(_.*)?|port_[0-9]+_.*)")
"""What Kubernetes sets in its containers for a service named wherry; it means no setting."""
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

T = TypeVar("T")


class ConfigError(Exception):
    """A setting cannot be used; the text says which, why, and where it came from."""


class Spec(NamedTuple):
    """What a setting may be.

    Attributes:
        text: one line for people.
        low: the least number allowed.
        high: the greatest number allowed.
        choices: the values allowed, when they are few.
        secret: whether the value is never shown, and never taken from a flag.
    """

    text: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    secret: bool = False


def _setting(default: T, text: str, **spec: Any) -> T:
    result: T = field(default=default, repr=not spec.get("secret"), metadata={"spec": Spec(text, **spec)})
    return result


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Durations are seconds, sizes bytes."""

    host: str = _setting("127.0.0.1", "the address to listen on")
    port: int = _setting(7117, "the port to listen on; 0 picks a free one", low=0, high=65_535)
    token: str = _setting("", "what clients must show to come in", secret=True)
    token_file: str = _setting("", "the file that holds the token")
    insecure: bool = _setting(False, "listen beyond this machine without a token")
    auto_declare: bool = _setting(True, "let a publish or a consumer declare a queue that is not there")
    drain_s: float = _setting(10.0, "how long clients may go on settling once the broker is told to stop", high=86_400)
    connections_max: int = _setting(CONNECTIONS_MAX, "how many connections are open at a time", low=1, high=1_000_000)
    frame_bytes_max: int = _setting(FRAME_BYTES_MAX, "the longest frame taken", low=131_072, high=1 << 30)
    login_s: float = _setting(5.0, "how long a client has to say who it is", low=0.1, high=3_600)
    heartbeat_s: float = _setting(30.0, "the longest heartbeat interval; 0 for no heartbeats", high=3_600)
    write_deadline_s: float = _setting(10.0, "how long a client may read nothing of what waits", low=0.1, high=3_600)
    unfinished_bytes_max: int = _setting(
        268_435_456, "how much all connections may hold of frames that are not whole yet", low=1_048_576, high=1 << 40
    )
    uncommitted_bytes_max: int = _setting(
        67_108_864, "how much may wait to be made durable before reading stops", low=65_536, high=1 << 40
    )
    resume_s: float = _setting(15.0, "how long what a client was leased outlives its connection", high=3_600)
    producer_window_s: float = _setting(
        600.0, "how long a client that publishes may be away and still not store twice", low=60, high=604_800
    )
    data: str = _setting("", "the directory of the log; without one, messages are in memory only")
    segment_bytes: int = _setting(SEGMENT_BYTES, "how long a file of the log grows", low=4_096, high=1 << 40)
    sync_interval_s: float = _setting(0.1, "how long a `written` message may wait for the disk", low=0.001, high=60)
    resident_bytes_max: int = _setting(
        RESIDENT_BYTES_MAX, "how much of what the log keeps is in memory too", low=1_048_576, high=1 << 40
    )
    memory_bytes_max: int = _setting(
        0, "how much memory all that is stored may take; 0 for half of what there is", high=1 << 40
    )
    log_level: str = _setting("info", "what is logged", choices=LOG_LEVELS)
    log_format: str = _setting("auto", "how it is logged; auto: pretty on a terminal, else json", choices=LOG_FORMATS)
    queue: QueueOptions = field(default_factory=QueueOptions)
    policies: tuple[Policy, ...] = ()


SPECS: dict[str, Spec] = {item.name: item.metadata["spec"] for item in fields(Settings) if "spec" in item.metadata}
DEFAULTS: dict[str, Any] = {item.name: item.default for item in fields(Settings) if "spec" in item.metadata}
_QUEUE_DEFAULTS: dict[str, Any] = {f"queue.{name}": value for name, value in QueueOptions().as_map().items()}
KINDS: dict[str, type[Any]] = {name: type(value) for name, value in (DEFAULTS | _QUEUE_DEFAULTS).items()}
"""The type of every setting; the default options of a queue are named `queue.OPTION`."""


class Value(NamedTuple):
    """A value as it was given, and where."""

    value: Any
    origin: str


class Config(NamedTuple):
    """The settings, where each came from, what the operator should be told, and the file's path; "" for none."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    path: str = ""

    def rows(self) -> list[tuple[str, Any, str]]:
        """Every setting: its name, its value (masked when it is secret), and where it came from."""
        values = {name: getattr(self.settings, name) for name in SPECS}
        values |= {f"queue.{name}": value for name, value in self.settings.queue.as_map().items()}
        hidden = {name for name, spec in SPECS.items() if spec.secret and values[name]}
        rows = [(name, MASK if name in hidden else value, self.origins[name]) for name, value in values.items()]
        for number, policy in enumerate(self.settings.policies, 1):
            options = {"pattern": policy.pattern, **policy.options}
            rows += [(f"policy.{number}.{name}", value, f"file {self.path}") for name, value in options.items()]
        return rows


def resolve(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """All settings, from all sources.

    Args:
        flags: the flags that were given, by the setting's name; None is one that was not. `config` names the file.
        environ: the environment.

    Raises:
        ConfigError: a source cannot be read, a key is unknown, or a value cannot be used.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    path = given.pop("config", "") or environ.get(f"{PREFIX}CONFIG", "")
    from_environ, warnings = _environment(environ)
    from_file, policies = _file(path) if path else ({}, ())
    sources = (_defaults(), from_file, from_environ, _flags(given))
    merged = _merged(sources)
    values = {name: _checked(name, *value) for name, value in merged.items()}
    options = {name.removeprefix("queue."): value for name, value in values.items() if name.startswith("queue.")}
    plain = {name: value for name, value in values.items() if name in SPECS}
    token, origin, more = _token(plain["token"], plain["token_file"], merged, path)
    origins = {name: value.origin for name, value in merged.items()} | {"token": origin}
    settings = Settings(**{**plain, "token": token}, queue=QueueOptions(**options), policies=policies)
    _check_together(settings, merged)
    return Config(settings, origins, (*warnings, *more), path)


def _check_together(settings: Settings, merged: Mapping[str, Value]) -> None:
    """Checks settings that depend on each other."""
    if settings.producer_window_s <= settings.resume_s:
        names = ("producer_window_s", "resume_s")
        told = " and ".join(f"{name} {getattr(settings, name):g} (from {merged[name].origin})" for name in names)
        raise ConfigError(f"{told} do not go together: the first must be the longer one")


def open_files_max() -> int:
    """How many files this process may open once it has raised its own limit; 0 for any number."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 0 if hard == resource.RLIM_INFINITY else hard


# The sources. Each returns raw values; those of the environment and of flags are still text.


def _defaults() -> dict[str, Value]:
    result = {name: Value(value, DEFAULT) for name, value in (DEFAULTS | _QUEUE_DEFAULTS).items()}
    files_max = open_files_max()
    if 0 < files_max < CONNECTIONS_MAX + OTHER_FILES:
        origin = f"default, as {files_max} files may be open"
        result["connections_max"] = Value(max(1, files_max - OTHER_FILES), origin)
    return result


def _file(path: str) -> tuple[dict[str, Value], tuple[Policy, ...]]:
    """The file's values, and its policies, which are checked."""
    origin = f"file {path}"
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{origin} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from None
    policies = tables.pop("policy", [])
    if not isinstance(policies, list) or not all(isinstance(each, dict) for each in policies):
        raise ConfigError(f"policy is a list of tables, as [[policy]], not {policies!r:.40} (from {origin})")
    queue = tables.pop("queue", {})
    if not isinstance(queue, dict):
        raise ConfigError(f"queue is a table of queue options, as [queue], not {queue!r:.40} (from {origin})")
    found = {**tables, **{f"queue.{name}": value for name, value in queue.items()}}
    _check_known(found, origin)
    values = {name: Value(value, origin) for name, value in found.items()}
    return values, tuple(_policy(each, f"{origin}, policy {number}") for number, each in enumerate(policies, 1))


def _policy(table: dict[str, Any], origin: str) -> Policy:
    options = dict(table)
    pattern = options.pop("pattern", None)
    problem = "it is missing" if pattern is None else "" if isinstance(pattern, str) else f"{pattern!r:.40} is no text"
    problem = problem or pattern_problem(pattern)
    if problem:
        raise ConfigError(f"a policy has a pattern of queue names, such as emails.*: {problem} (from {origin})")
    if "kind" in options:
        raise ConfigError(f"kind is chosen for each queue alone, and by no policy (from {origin})")
    named = {f"queue.{name}": value for name, value in options.items()}
    _check_known(named, origin, _QUEUE_DEFAULTS)
    return Policy(pattern, {name: _checked(f"queue.{name}", value, origin) for name, value in options.items()})


def _environment(environ: Mapping[str, str]) -> tuple[dict[str, Value], list[str]]:
    """The environment's values, and warnings of variables that look like settings and are none.

    A variable that nearly has a setting's name is an error like any other; one that does not may be someone else's,
    and stops nothing.
    """
    names = {_variable(name): name for name in KINDS}
    result: dict[str, Value] = {}
    warnings = []
    for variable, value in environ.items():
        plain = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or plain in _OTHERS or not value:
            continue
        origin = f"environment {variable}"
        if variable in names:
            result[names[variable]] = Value(value, origin)
        elif not _KUBERNETES.fullmatch(plain):
            if difflib.get_close_matches(variable, names, n=1, cutoff=0.85):
                _check_known({variable: value}, origin, names)
            warnings.append(f"{variable} is no setting of the broker, and is ignored")
    return result, warnings


def _variable(name: str) -> str:
    return PREFIX + name.replace(".", "_").upper()


def _flags(given: Mapping[str, Any]) -> dict[str, Value]:
    for name in given:
        if name in SPECS and SPECS[name].secret:
            raise ConfigError(f"{name} cannot be a flag: use {_variable(name)} or --token-file")
    _check_known(given, "a flag")
    return {
        name: Value(value, f"flag --{name.removeprefix('queue.').replace('_', '-')}") for name, value in given.items()
    }


def _check_known(found: Mapping[str, Any], origin: str, known: Mapping[str, Any] = KINDS) -> None:
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "`wherry config` lists them all"
            raise ConfigError(f"there is no setting {name!r:.60} (from {origin}); {hint}")


def _merged(sources: tuple[dict[str, Value], ...]) -> dict[str, Value]:
    """The last value of each; a token replaces a token's file that came before it, and the other way round."""
    result: dict[str, Value] = {}
    for source in sources[1:]:
        if "token" in source and "token_file" in source:
            origins = f"{source['token'].origin} and {source['token_file'].origin}"
            raise ConfigError(f"token and token_file are both given (from {origins}): give one")
    for source in sources:
        result |= source
        for name, other in (("token", "token_file"), ("token_file", "token")):
            if name in source and other not in source:
                result[other] = sources[0][other]
    return result


# The checks.


def _checked(name: str, value: Any, origin: str) -> Any:
    try:
        return _usable(name, _parsed(name, value) if isinstance(value, str) else value)
    except (ValueError, InvalidOption) as error:
        shown = f"{name} {value!r:.60} is " if isinstance(error, ValueError) and not _secret(name) else ""
        hint = ""
        if name == "port" and str(value).startswith("tcp://"):
            hint = "; Kubernetes sets this for a service named wherry: put enableServiceLinks: false into the pod"
        raise ConfigError(f"{shown}{error} (from {origin}{hint})") from None


def _secret(name: str) -> bool:
    return name in SPECS and SPECS[name].secret


def _parsed(name: str, text: str) -> Any:
    """A value out of its text; what is no text stays as it is."""
    kind, unit = KINDS[name], name.rpartition("_")[2]
    if kind in _READERS and unit not in {"s", "ms"}:
        return _READERS[kind](text)
    if unit == "s" and not name.endswith("per_s"):
        return duration_ms(text) / 1000
    if unit == "ms" and not text.strip().isdigit():
        return duration_ms(text)
    if kind is float:
        return _number(text)
    return size_bytes(text) if "bytes" in name else _integer(text)


def _switch(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError(f"not one of {', '.join(_TRUE + _FALSE)}")
    return text.lower() in _TRUE


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("not a number") from None


def _weights(text: str) -> dict[str, int]:
    pairs = [each.strip().rpartition("=") for each in text.split(",")]
    if not all(equals and number.strip().isdecimal() for _, equals, number in pairs):
        raise ValueError("not a list of KEY=NUMBER, with commas between them")
    return {key.strip(): int(number) for key, _, number in pairs}


def _patterns(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("not a whole number") from None


def _usable(name: str, value: Any) -> Any:
    if name not in SPECS:
        return checked(name.removeprefix("queue."), value)
    spec, kind = SPECS[name], KINDS[name]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"not a {kind.__name__}")
    if spec.choices and value not in spec.choices:
        raise ValueError(f"not one of {', '.join(spec.choices)}")
    if spec.high and not spec.low <= value <= spec.high:
        raise ValueError(f"not within {spec.low} to {spec.high}")
    if name == "connections_max" and 0 < open_files_max() < value + OTHER_FILES:
        raise ValueError(f"more than {open_files_max() - OTHER_FILES}, with {open_files_max()} open files allowed")
    if name == "host" and not value:
        raise ValueError("empty: 0.0.0.0 or :: listens on all addresses")
    return value


_READERS: dict[type, Callable[[str], Any]] = {str: str, bool: _switch, float: _number, dict: _weights, tuple: _patterns}


# The token.


def _token(token: str, file: str, merged: Mapping[str, Value], path: str) -> tuple[str, str, list[str]]:
    """The token, where it came from, and warnings."""
    origin = merged["token"].origin
    warnings = []
    if file:
        origin = merged["token_file"].origin
        try:
            token = read_token(file)
        except TokenFileError as error:
            raise ConfigError(str(error)) from None
        warnings = _exposed(file)
    elif token and origin == f"file {path}":
        warnings = _exposed(path)
    if len(token) > TEXT_BYTES_MAX:
        raise ConfigError(f"the token is {len(token)} characters long, which is over {TEXT_BYTES_MAX} (from {origin})")
    return token, origin, warnings


def _exposed(path: str) -> list[str]:
    if Path(path).stat().st_mode & stat.S_IROTH:
        return [f"{path} holds a token and can be read by everyone on this machine: chmod o-r {path}"]
    return []
