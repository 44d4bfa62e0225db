"""Logging: structlog, readable on a terminal and JSON elsewhere, always on standard error.

What the standard library logs (asyncio, `wherry.*`, warnings) takes the same way out. Nothing here raises: a log that
nobody reads any more, as after `wherry serve 2>&1 | head`, is no reason to stop delivering messages.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger, Processor


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    """Has a module seem not to be installed."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # as the import system takes it: there is none
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


# structlog imports rich where it finds it, for tracebacks that are not shown here. With what rich imports in turn, that
# would be a fifth of a broker's start.
with _absent("rich"):
    import structlog


class _Lossy:
    """A text stream that loses what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def configure(level: str, layout: str, stream: TextIO | None = None) -> FilteringBoundLogger:
    """Sets up all logging of the process.

    Args:
        level: debug, info, warning or error.
        layout: pretty, json, or auto for the one that suits the stream.
        stream: where lines go; standard error when it is None.

    Returns:
        The broker's logger.
    """
    target = stream or sys.stderr
    pretty = layout == "pretty" or (layout == "auto" and target.isatty())
    out = cast("TextIO", _Lossy(target))
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last = _pretty(colors=target.isatty()) if pretty else _json()
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _route_stdlib(number, out, shared, last)
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def _pretty(*, colors: bool) -> list[Processor]:
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, pad_event_to=24)]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr)]


def _route_stdlib(number: int, out: TextIO, shared: list[Processor], last: list[Processor]) -> None:
    """Sends the root logger's records through the same processors."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(capture=True)
