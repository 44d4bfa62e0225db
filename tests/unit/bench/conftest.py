"""The benchmarks are scripts that import one another; what of them is pure is tested here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "bench"))
