"""The fuzz targets by themselves: all seeds, and inputs made of them at random. And, slowly, with atheris.

WHERRY_TEST_CASES is how many random inputs each target gets (ten for each), WHERRY_TEST_SEED another draw of them,
WHERRY_TEST_SECONDS for how long atheris runs. A failure prints its input in hex; `run.py` says where it belongs.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc

import fuzz_corpus
import pytest
from fuzz_targets import TARGETS

from installing import ROOT, plain_environ, skip_loudly

CASES = 10 * int(os.environ.get("WHERRY_TEST_CASES", "2000"))
SEED = int(os.environ.get("WHERRY_TEST_SEED", "0"))
SECONDS = int(os.environ.get("WHERRY_TEST_SECONDS", "60"))
CPU_S_MAX = 0.5
"""What one input may cost; the bound that is aimed at is 50 ms, and machines are slow now and then."""
MEMORY_BYTES_MAX = 32 << 20


def run(target: str, data: bytes, note: str) -> None:
    began = time.process_time()
    try:
        TARGETS[target](data)
    except Exception as error:
        raise AssertionError(f"{note}: {type(error).__name__}: {error}\n{target}: {data.hex()}") from error
    took = time.process_time() - began
    assert took < CPU_S_MAX, f"{note}: {took} s\n{target}: {data.hex()}"


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target):
    seeds = fuzz_corpus.seeds(target)
    assert len(seeds) > 20
    for number, seed in enumerate(seeds):
        tracemalloc.start()
        run(target, seed, f"seed {number}")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY_BYTES_MAX, f"seed {number}: {peak} bytes"


@pytest.mark.parametrize("target", TARGETS)
def test_random_inputs(target):
    seeds = fuzz_corpus.seeds(target)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(CASES):
        draw = random.Random(f"{SEED}:{number}")
        run(target, mutated(draw, seeds), f"case {number} of seed {SEED}")
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MEMORY_BYTES_MAX


def mutated(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with a few changes, or parts of two."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[at % len(data)] = draw.choice([0, 1, 4, 0x7F, 0x80, 0x90, 0xC1, 0xDC, 0xDD, 0xFE, 0xFF])
            case 2:
                del data[at : at + draw.choice([1, 2, 4, 50])]
            case 3:
                data[at:at] = draw.randbytes(draw.choice([1, 2, 4, 8]))
            case 4:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[at : at + draw.choice([0, 8, 100])] = other[start : start + draw.choice([4, 16, 200])]
            case _:
                data[at:at] = data[at : at + draw.choice([1, 3, 12, 60])] * draw.choice([1, 2, 30])
    return bytes(data[:65_536])


@pytest.fixture(scope="module")
def atheris(tmp_path_factory):
    """A Python that has atheris: this one, or one of its own."""
    if subprocess.run([sys.executable, "-c", "import atheris"], check=False, capture_output=True).returncode == 0:
        return sys.executable
    folder = tmp_path_factory.mktemp("atheris")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    needed = ("atheris", "msgpack", "crc32c")
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=False, capture_output=True)
    if done.returncode:
        skip_loudly(f"atheris cannot be installed: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_with_atheris(atheris, target, tmp_path):
    program = ROOT / "tests" / "fuzz" / "run.py"
    environ = {**plain_environ(), "WHERRY_TEST_SECONDS": str(SECONDS), "WHERRY_FUZZ_FOLDER": str(tmp_path)}
    # libFuzzer limits the most memory that its process ever had, and a child begins with that of its parent: a shell in
    # between has little, where the process that runs all tests may have had a lot.
    command = ["sh", "-c", '"$@"; exit $?', "sh", atheris, program, target]
    done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=SECONDS + 120)
    kept = "".join(f"\n{path.name}: {path.read_bytes().hex()}" for path in tmp_path.glob(f"{target}/*-*"))
    assert done.returncode == 0, done.stderr[-4000:] + kept
    assert "Done" in done.stderr
    print(done.stderr[done.stderr.rindex("Done") :].splitlines()[0])  # noqa: T201 (how much was tried)
    shutil.rmtree(tmp_path, ignore_errors=True)
