"""The broker as a whole: builds it, runs it, and ends it in order. The only module that knows every concrete class.

The end: the first SIGTERM or SIGINT stops accepting and delivering, and lets clients settle or release what they hold,
for `drain_s` at most; a second one ends the process at once. An exception out of the core or the pump also ends it at
once: what such a broker would say next could be wrong, and its clients are safer with none.

SIGHUP, when there is a configuration file, has it read again: the default options of queues and the policies are those
of the file from then on. One that cannot be used changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import random
import resource
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry_broker import crons, events, observe, version
from wherry_broker.config import DEFAULT, SPECS, ConfigError
from wherry_broker.core.options import LEVELS, QueueOptions
from wherry_broker.core.policies import Policies
from wherry_broker.core.shard import Shard
from wherry_broker.eventloop import loop_factory
from wherry_broker.log.file import FileLog
from wherry_broker.log.memory import MemoryLog
from wherry_broker.log.store import DiskStore, LogUnusable
from wherry_broker.machine import memory_bytes
from wherry_broker.server.auth import TokenAuth
from wherry_broker.server.clock import Clock
from wherry_broker.server.limits import Limits
from wherry_broker.server.listener import Listener
from wherry_broker.server.pump import Pump, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from wherry_broker.config import Config, Settings
    from wherry_broker.log.recovery import Torn
    from wherry_broker.log.repair import Repaired

EXIT_LOG_FAILED = 74
"""The exit code of a broker whose log cannot be written; sysexits.h calls it EX_IOERR."""
EXIT_BROKEN = 70
"""The exit code of a broker that found a bug in itself; sysexits.h calls it EX_SOFTWARE."""
GOODBYE = "the broker is shutting down"
NAMES_SHOWN = 20
"""How many queues one event of the log names."""
HEAP_KEPT_BYTES = 16 * 1024 * 1024
GC_THRESHOLDS = (20_000, 20, 20)
"""A queue's batches live long and hold no cycles of garbage: looking through them often finds nothing."""
_MUST_NOT_FAIL = ("wherry_broker.core.", "wherry_broker.log.", "wherry_broker.server.pump")


class Broker:
    """All parts of one broker, in one event loop.

    Args:
        config: what was set.
        log: where events are told.
        loop: the event loop.
        repair: whether to repair a damaged log before it is read.
    """

    def __init__(
        self, config: Config, log: FilteringBoundLogger, loop: asyncio.AbstractEventLoop, *, repair: bool = False
    ) -> None:
        settings = config.settings
        limits = limits_of(settings)
        clock = self._clock = Clock()
        self._settings = settings
        self._log = log
        with _telling_the_directory(settings.data):
            self._records = _log_of(settings, loop, partial(_on_log_failure, log))
        policies = _policies_of(config, self._records.level)
        self._shard = Shard(
            0,
            random.random,
            auto_declare=settings.auto_declare,
            calendar=crons.moments,
            producer_window_ms=round(settings.producer_window_s * 1000),
            resume_ms=round(settings.resume_s * 1000),
            resident_bytes_max=settings.resident_bytes_max,
            memory_bytes_max=settings.memory_bytes_max or memory_bytes() // 2,
        )
        with _telling_the_directory(settings.data):
            if repair and isinstance(self._records, FileLog):
                _tell_repaired(log, self._records.repair())
            self._restore(clock)
        self._pump = Pump(self._shard, self._records, clock, loop, limits.uncommitted_bytes_max)
        self._configure(policies)
        auth = TokenAuth(settings.token)
        self._listener = Listener(self._pump, auth, limits, self._shard.state.epoch, f"wherry/{version()}", log)

    def _restore(self, clock: Clock) -> None:
        """Reads the log into the core, and begins a new segment."""
        started, records = time.monotonic(), self._records
        count = restore(self._shard, records, clock)
        if isinstance(records, FileLog):
            if records.torn is not None:
                _tell_torn(self._log, records.torn, records.torn.aside)
            took_s = round(time.monotonic() - started, 3)
            self._log.info(events.LOG_READ, records=count, size_bytes=records.size_bytes, took_s=took_s)

    @property
    def memory_bytes_max(self) -> int:
        """How much memory all that is stored may take."""
        return self._shard.state.memory.bytes_max

    def _configure(self, policies: Policies) -> None:
        """Has these policies, for queues that are there too."""
        done = self._shard.reconfigure(policies, self._clock.now_ms())
        self._pump.wake()
        for event, names in ((events.QUEUES_CHANGED, done.changed), (events.QUEUES_KEPT, done.kept)):
            if names:
                self._log.info(event, count=len(names), queues=names[:NAMES_SHOWN])

    def reload(self, read: Callable[[], Config]) -> None:
        """Has the configuration of now, as far as it can change while the broker runs.

        Args:
            read: reads it; raises ConfigError when it cannot be used.
        """
        try:
            config = read()
            policies = _policies_of(config, self._records.level)
        except ConfigError as error:
            self._log.error(events.CONFIG_REFUSED, text=f"{error}; nothing has changed")
            return
        self._log.info(events.CONFIG_READ, file=config.path, policies=len(config.settings.policies))
        later = [name for name in SPECS if getattr(config.settings, name) != getattr(self._settings, name)]
        if later:
            self._log.warning(events.CONFIG_LATER, settings=later)
        self._configure(policies)

    async def start(self) -> str:
        """Begins to listen.

        Returns:
            The address, as HOST:PORT.

        Raises:
            OSError: the address is taken, or is none of this machine.
        """
        self._pump.wake()  # for what is due, whether anybody comes or not
        host, port = await self._listener.start(self._settings.host, self._settings.port)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """Ends in order: no new clients, no new deliveries; then the leases, as far as there is time; then goodbye."""
        self._listener.stop_accepting()
        self._log.info(events.DRAINING, leased=self._shard.leased, connections=self._listener.connections)
        drained = asyncio.Event()
        self._pump.drain(GOODBYE, drained.set)
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await drained.wait()
        except TimeoutError:
            self._log.warning(events.DRAIN_TIMED_OUT, leased=self._shard.leased, drain_s=self._settings.drain_s)
        await self._listener.close("draining", GOODBYE)
        self._pump.close()
        records = self._records
        size_bytes = records.size_bytes  # while its last segment is open
        records.close()
        if isinstance(records, FileLog):
            self._log.info(events.LOG_CLOSED, size_bytes=size_bytes, written_bytes=records.written_bytes)


def _tell_torn(log: FilteringBoundLogger, torn: Torn, kept: str) -> None:
    log.warning(
        events.LOG_TORN, file=torn.name, offset=torn.offset, size_bytes=torn.size, reason=torn.reason, kept=kept
    )


def _tell_repaired(log: FilteringBoundLogger, told: Repaired) -> None:
    if told.torn is not None:
        _tell_torn(log, told.torn, told.aside)
    for damage in told.damages:
        log.warning(events.LOG_DAMAGED, file=damage.name, offset=damage.offset, reason=damage.reason)
    for queue, ranges in told.lost.items():
        log.warning(events.LOG_LOST, queue=queue, ranges=ranges)
    if told.damages:
        log.warning(events.LOG_REPAIRED, messages=told.kept, entries_lost=told.entries, kept=told.aside)


def run(
    config: Config, ready: Callable[[str], None], read: Callable[[], Config] | None = None, *, repair: bool = False
) -> int:
    """Runs a broker until it is told to stop.

    Args:
        config: the settings.
        ready: called with the address once the broker listens on it.
        read: reads the settings anew; asked for at a SIGHUP when they come from a file.
        repair: whether to repair a damaged log before it is read.

    Returns:
        The exit code.

    Raises:
        ConfigError: the settings do not go together.
        LogUnusable: the log cannot be read, or no segment of it be begun.
        OSError: the address is taken, or is none of this machine.
    """
    settings = config.settings
    log = observe.configure(settings.log_level, settings.log_format)
    check_exposure(settings)
    for text in config.warnings:
        log.warning(events.NOTICE, text=text)
    _raise_open_files()
    _settle_memory()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(config, log, ready, read, repair=repair))
    log.info(events.STOPPED)
    return 0


async def _serve(
    config: Config,
    log: FilteringBoundLogger,
    ready: Callable[[str], None],
    read: Callable[[], Config] | None,
    *,
    repair: bool = False,
) -> None:
    settings = config.settings
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(partial(_on_error, log))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, stopping, log)
    broker = Broker(config, log, loop, repair=repair)
    if read is not None and config.path:
        loop.add_signal_handler(signal.SIGHUP, broker.reload, read)
    address = await broker.start()
    log.info(
        events.STARTED,
        address=address,
        version=version(),
        loop=type(loop).__module__,
        token=bool(settings.token),
        connections_max=settings.connections_max,
        memory_bytes_max=broker.memory_bytes_max,
    )
    ready(address)
    await stopping.wait()
    await broker.stop()


def _on_signal(number: signal.Signals, stopping: asyncio.Event, log: FilteringBoundLogger) -> None:
    if stopping.is_set():
        log.warning(events.FORCED, signal=number.name)
        os._exit(128 + number)
    stopping.set()


def _on_error(log: FilteringBoundLogger, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the event loop calls with an exception that nobody caught."""
    error = context.get("exception")
    log.error(events.CALLBACK_FAILED, text=context.get("message", ""), exc_info=error)
    if error is not None and _is_broken(error):
        log.critical(events.BROKEN, text="the broker found a bug in itself, and ends before it does harm")
        os._exit(EXIT_BROKEN)


def _is_broken(error: BaseException) -> bool:
    """Whether an exception came through the core, a log, or the pump."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(_MUST_NOT_FAIL):
            return True
        trace = trace.tb_next
    return False


def check_exposure(settings: Settings) -> None:
    """Refuses to listen beyond this machine without a token.

    Raises:
        ConfigError: that is what the settings ask for; or the host is not known.
    """
    if settings.token or settings.insecure or all(map(_is_loopback, _addresses(settings.host))):
        return
    raise ConfigError(
        f"without a token, everyone who can reach {settings.host} could read and delete all messages: "
        "set WHERRY_TOKEN or --token-file FILE, or listen on 127.0.0.1, "
        "or pass --insecure if everyone on that network is trusted"
    )


def _addresses(host: str) -> list[str]:
    try:
        return [str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise ConfigError(
            f"host {host!r:.60} is not known: it is neither an address nor a name that resolves"
        ) from None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _log_of(
    settings: Settings, loop: asyncio.AbstractEventLoop, failed: Callable[[BaseException], None]
) -> MemoryLog | FileLog:
    if not settings.data:
        return MemoryLog()
    return FileLog(
        DiskStore(Path(settings.data)),
        loop.call_soon_threadsafe,
        failed,
        segment_bytes=settings.segment_bytes,
        sync_interval_ms=round(settings.sync_interval_s * 1000),
    )


@contextlib.contextmanager
def _telling_the_directory(data: str) -> Iterator[None]:
    """Tells an error of the disk apart from one of the network."""
    try:
        yield
    except OSError as error:
        raise LogUnusable(f"the log in {data} cannot be used: {error}") from error


def _on_log_failure(log: FilteringBoundLogger, error: BaseException) -> None:
    """A write, a sync or a read has failed: nothing more may be confirmed, so the process ends here and now."""
    log.critical(events.LOG_FAILED, error=f"{type(error).__name__}: {error}")
    os._exit(EXIT_LOG_FAILED)


def _defaults_of(config: Config, level: str) -> QueueOptions:
    """The default options of a queue; its durability is what the log gives, unless it was set."""
    options = config.settings.queue
    if config.origins["queue.durability"] == DEFAULT:
        return options.changed({"durability": level})
    if LEVELS.index(options.durability) > LEVELS.index(level):
        text = f"queue.durability {options.durability!r} is more than this broker's log gives, which is {level!r}"
        raise ConfigError(f"{text}; --data DIR keeps a log on the disk")
    return options


def _policies_of(config: Config, level: str) -> Policies:
    """The default options of queues, and the policies; no durability is more than the log gives.

    Raises:
        ConfigError: one is.
    """
    for number, policy in enumerate(config.settings.policies, 1):
        durability = policy.options.get("durability", level)
        if LEVELS.index(durability) > LEVELS.index(level):
            text = (
                f"durability {durability!r} of policy {number} is more than this broker's log gives, which is {level!r}"
            )
            raise ConfigError(f"{text} (from file {config.path})")
    return Policies(_defaults_of(config, level), config.settings.policies)


def limits_of(settings: Settings) -> Limits:
    """The limits of connections that the settings ask for."""
    return Limits(
        connections_max=settings.connections_max,
        frame_bytes_max=settings.frame_bytes_max,
        login_ms=round(settings.login_s * 1000),
        heartbeat_ms=round(settings.heartbeat_s * 1000),
        write_deadline_ms=round(settings.write_deadline_s * 1000),
        unfinished_bytes_max=settings.unfinished_bytes_max,
        uncommitted_bytes_max=settings.uncommitted_bytes_max,
        producer_window_ms=round(settings.producer_window_s * 1000),
        resume_ms=round(settings.resume_s * 1000),
    )


def _raise_open_files() -> None:
    """Allows this process as many open files as it may allow itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # some systems refuse "unlimited": what was allowed must do then
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _settle_memory() -> None:
    """Has memory kept and left alone where the defaults suit short programs better than a broker."""
    # glibc hands the end of its heap back to the system as soon as 128 KiB of it are free, and blocks come and go all
    # the time: each would cost page faults. Freeing one large block raises that limit to twice its size (mallopt(3)).
    bytes(HEAP_KEPT_BYTES)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
