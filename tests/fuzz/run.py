"""Fuzzes one target with atheris, which looks for inputs that reach new code:

    python tests/fuzz/run.py frames           # or log; WHERRY_TEST_SECONDS is for how long, 60 s by default
    python tests/fuzz/run.py frames FILE...   # runs inputs once

The corpus grows in build/fuzz/TARGET. An input that fails is written there as crash-..., and belongs into
tests/vectors/fuzz/TARGET once it is understood.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("client", "broker", "tests")]
with atheris.instrument_imports(include=["wherry", "wherry_broker", "fuzz_targets"]):
    import fuzz_corpus
    import fuzz_targets

FOLDER = Path(os.environ.get("WHERRY_FUZZ_FOLDER", ROOT / "build" / "fuzz"))
SECONDS = int(os.environ.get("WHERRY_TEST_SECONDS", "60"))
INPUT_BYTES_MAX = 65_536
INPUT_SECONDS_MAX = 2
"""Whole seconds are all that libFuzzer counts; test_fuzz.py holds its inputs to less."""
MALLOC_MB_MAX = 64
RSS_MB_MAX = 768


def main(target: str, *files: str) -> None:
    """Fuzzes, or runs files."""
    folder = FOLDER / target
    fuzz_corpus.write(target, folder / "seeds")
    (folder / "found").mkdir(exist_ok=True)
    limits = [f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_SECONDS_MAX}", f"-malloc_limit_mb={MALLOC_MB_MAX}"]
    ends = [f"-rss_limit_mb={RSS_MB_MAX}", f"-max_total_time={SECONDS}", f"-artifact_prefix={folder}/"]
    inputs = list(files) or [str(folder / "found"), str(folder / "seeds")]
    atheris.Setup([sys.argv[0], *limits, *ends, "-print_final_stats=1", *inputs], fuzz_targets.TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) == 1 or sys.argv[1] not in fuzz_targets.TARGETS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
