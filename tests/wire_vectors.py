"""The vectors: literal frames and what they mean. Read by several tests; bytes are written as `hex:...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wherry.wire.codec import OPCODES
from wherry.wire.framing import FrameReader

FOLDER = Path(__file__).parent / "vectors"
CLASSES = {cls.__name__.upper(): cls for cls in OPCODES.values()}
LIMIT = 1 << 24


def load(name: str) -> list[Any]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def data_of(text: str) -> bytes:
    """The bytes of a vector: hex in groups, of which `00*99` is a byte 99 times."""
    result = b""
    for group in text.split():
        digits, _, count = group.partition("*")
        result += bytes.fromhex(digits) * int(count or 1)
    return result


def plain(value: Any) -> Any:
    """A JSON value as the message types hold it."""
    if isinstance(value, str) and value.startswith("hex:"):
        return bytes.fromhex(value[4:])
    if isinstance(value, list):
        return tuple(map(plain, value))
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return value


def message_of(vector: dict[str, Any]) -> Any:
    cls = CLASSES[vector["type"]]
    assert tuple(vector["fields"]) == cls._fields, vector["name"]
    return cls(**{name: plain(value) for name, value in vector["fields"].items()})


def frames_of(data: bytes, limit: int = LIMIT) -> list[Any]:
    reader = FrameReader(limit)
    frames = reader.feed(data)
    assert not reader.failure, reader.failure
    assert not reader.buffered_bytes
    return frames
