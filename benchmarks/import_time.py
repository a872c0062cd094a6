"""What `import dsac` costs beyond importing torch: median of several fresh interpreters.

python benchmarks/import_time.py
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys

REPEATS = 7


def seconds_beyond_torch() -> float:
    """Cumulative time of `import dsac` in an interpreter that has torch already."""
    command = [sys.executable, "-X", "importtime", "-c", "import torch; import dsac"]
    trace = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    match = re.search(r"\|\s*(\d+) \| dsac$", trace, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1e6


if __name__ == "__main__":
    times = [seconds_beyond_torch() for _ in range(REPEATS)]
    print(f"import dsac: {statistics.median(times):.3f} s beyond torch (median of {REPEATS})")
