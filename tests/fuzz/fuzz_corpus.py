"""What fuzzing begins with: inputs that get deep into the code, made from the vectors, and those that failed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack
from fuzz_targets import BETWEEN_FILES, LIMITS, ONE_ENTRY, WHOLE_FILES

import wire_vectors
from log_files import EVERY_KIND, MemoryStore, Segment, preamble, write_log
from wherry_broker.log.codec import encode_entry

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN = wire_vectors.FOLDER / "log"
FAILED = wire_vectors.FOLDER / "fuzz"
"""A folder for each target: inputs that it failed on once."""


def frames() -> list[bytes]:
    """Every vector, under each limit; and all good ones in one stream."""
    names = ("messages", "bad_frames", "bad_headers")
    datas = [wire_vectors.data_of(vector["hex"]) for name in names for vector in wire_vectors.load(name)]
    stream = b"".join(wire_vectors.data_of(vector["hex"]) for vector in wire_vectors.load("messages"))
    nested = bytes.fromhex("00000bc00200000000000bb8") + bytes.fromhex("dc1388") * 1000
    inputs = [*datas, stream, nested]
    return [bytes([LIMITS.index(limit), size]) + data for data in inputs for limit, size in ((1 << 24, 255), (4096, 6))]


def log() -> list[bytes]:
    """The golden logs, a log of every kind of record, and the heads of entries with sound checksums."""
    logs = [[path.read_bytes() for path in sorted(folder.glob("*.log"))] for folder in GOLDEN.glob("v*/*/")]
    store = MemoryStore()
    write_log(store, [Segment(preamble(), [[record] for record in EVERY_KIND]), Segment(preamble(), [EVERY_KIND])])
    logs.append([bytes(store.files[name]) for name in store.names()])
    files = [bytes([WHOLE_FILES]) + BETWEEN_FILES.join(each) for each in logs]
    heads = [_entry(record) for record in EVERY_KIND]
    odd = [[], [[]], [[1]], [{}], [[4, 1, 1, [1], 0, "", b"", 0, 0]], [[99]], 5, "x", {"a": [1]}, [[9, 1, 1, 1, [[]]]]]
    nested = b"\xdc\xf0\x00" * 1000 + bytes(61_440)
    made = [*map(msgpack.packb, odd), nested]
    return [*files, *heads, *(bytes([ONE_ENTRY]) + len(head).to_bytes(2, "big") + head for head in made)]


def _entry(record: object) -> bytes:
    pieces = encode_entry(1, 1, 1, 1, [record], lambda block: block.data).pieces
    whole = b"".join(pieces)
    head_bytes = int.from_bytes(whole[8:12], "big")
    start = len(whole) - head_bytes - sum(map(len, pieces[1:]))
    return bytes([ONE_ENTRY]) + head_bytes.to_bytes(2, "big") + whole[start:]


def seeds(target: str) -> list[bytes]:
    """What fuzzing a target begins with."""
    made = {"frames": frames, "log": log}[target]()
    return made + [path.read_bytes() for path in sorted((FAILED / target).glob("*"))]


def write(target: str, folder: Path) -> None:
    """Writes the seeds of a target into a folder, one a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed-{number:04d}").write_bytes(seed)
