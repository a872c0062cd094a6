"""Do the tests bite? Plants one fault at a time in a copy of the package and runs the tests that should fail.

    python benchmarks/mutation.py [--only NAME …] [--list]

A fault is a piece of source, found exactly once in the package, and what stands there instead
(`mutation_faults.py`). The checkout is never written to. The exit code is 0 when each fault is caught, 1 when
one survives, 2 when a fault's text is gone or its tests do not pass without it. A fault in compiled code costs
minutes, for the machine code is made anew.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mutation_faults import FAULTS, Fault

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What became of a planted fault."""

    fault: Fault
    file: Path  # relative to the checkout
    caught_by: str | None  # the first test that failed; None: it survived
    seconds: float

    @property
    def row(self) -> str:
        caught_by = "**survives**" if self.caught_by is None else self.caught_by
        return f"| {self.fault.name} | {self.file} | {caught_by} | {self.seconds:.0f} |"


HEADER = ["| fault | file | caught by | seconds |", "|---|---|---|---|"]


class Stale(Exception):
    """A fault that cannot be planted, or whose tests do not pass without it."""


def main(arguments: list[str] | None = None, faults: Sequence[Fault] = FAULTS) -> int:
    chosen = _parse(arguments, faults)
    outcomes: list[Outcome] = []
    code = 0
    try:
        places = [locate(fault, CHECKOUT / "dsac") for fault in chosen]  # all, before the first is run
        with copied(CHECKOUT) as sound:
            _say("without a fault: " + " ".join(_tests(chosen)))
            if (failed := first_failure(sound, _tests(chosen))) is not None:
                raise Stale(f"{failed} fails without any fault")
            for number, (fault, file) in enumerate(zip(chosen, places, strict=True), 1):
                _say(f"[{number}/{len(chosen)}] {fault.name}")
                outcomes.append(planted(fault, file, sound))
    except Stale as error:
        _say(f"mutation.py: {error}")
        code = 2
    except KeyboardInterrupt:
        _say("interrupted")
        code = 130
    print("\n".join([*HEADER, *(outcome.row for outcome in outcomes)]))
    survivors = sum(outcome.caught_by is None for outcome in outcomes)
    _say(f"{len(outcomes) - survivors} of {len(outcomes)} caught")
    return code or int(survivors > 0)


def locate(fault: Fault, package: Path) -> Path:
    """The file of the package that holds the fault's text. Raises: `Stale` unless it occurs exactly once."""
    found = {path: path.read_text().count(fault.text) for path in sorted(package.rglob("*.py"))}
    places = [path.relative_to(package.parent) for path, count in found.items() if count > 0]
    if sum(found.values()) != 1:
        raise Stale(
            f"{fault.name}: expected its text exactly once below {package}, found it "
            f"{sum(found.values())} times {[str(place) for place in places]}:\n{fault.text}"
        )
    return places[0]


def planted(fault: Fault, file: Path, sound: Path) -> Outcome:
    """The outcome of the fault's tests in a copy of `sound`, a checkout."""
    started = time.monotonic()
    with copied(sound) as copy:
        source = (copy / file).read_text()
        (copy / file).write_text(source.replace(fault.text, fault.replacement))
        if _is_compiled(source):  # Numba does not notice when what a function calls has changed
            for cache in copy.rglob("*.nb[ic]"):
                cache.unlink()
        caught_by = first_failure(copy, fault.tests)
    return Outcome(fault, file, caught_by, time.monotonic() - started)


@contextmanager
def copied(checkout: Path) -> Iterator[Path]:
    """A copy of what the tests need, with the machine code that is there; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="dsac-mutation-") as folder:
        copy = Path(folder) / "checkout"
        copy.mkdir()
        for name in _NEEDED:
            if (checkout / name).is_dir():
                shutil.copytree(checkout / name, copy / name, ignore=shutil.ignore_patterns("*.pyc"))
            elif (checkout / name).exists():
                shutil.copy2(checkout / name, copy / name)
        yield copy


_NEEDED = ("dsac", "tests", "benchmarks", "examples", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")


def first_failure(checkout: Path, tests: Iterable[str]) -> str | None:
    """The first test that fails there, or None. Raises: `Stale` when they cannot be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *tests]
    recordings = os.environ.get("DSAC_TEST_DATA", str(CHECKOUT.parent / "shared" / "data"))
    environment = {**os.environ, "PYTHONPATH": str(checkout), "DSAC_TEST_DATA": recordings}
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = process.communicate()
    finally:
        process.kill()  # Ctrl-C
    if process.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - |$)", output, flags=re.MULTILINE)
    if process.returncode != 1 or failed is None:
        raise Stale(f"pytest {' '.join(tests)} cannot be run:\n{output[-3000:]}")
    return failed[1]


def _is_compiled(source: str) -> bool:
    return re.search(r"^from dsac\.kernels\.jit import|^from numba import", source, re.MULTILINE) is not None


def _tests(faults: Iterable[Fault]) -> list[str]:
    """Each once; of a file and tests in it the file alone."""
    every = dict.fromkeys(test for fault in faults for test in fault.tests)
    return [test for test in every if "::" not in test or test.split("::")[0] not in every]


def _parse(arguments: list[str] | None, faults: Sequence[Fault]) -> list[Fault]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these faults alone")
    parser.add_argument("--list", action="store_true", help="say which faults there are")
    asked = parser.parse_args(arguments)
    names = [fault.name for fault in faults]
    if asked.list:
        print("\n".join(names))
        parser.exit()
    if unknown := set(asked.only or []) - set(names):
        parser.error(f"--only: expected names that --list says, got {', '.join(sorted(unknown))}")
    return [fault for fault in faults if asked.only is None or fault.name in asked.only]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
