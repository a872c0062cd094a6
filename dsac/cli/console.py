"""What the user sees: results on standard output, progress and mistakes on standard error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

if TYPE_CHECKING:
    from dsac.mapping import MappingProgress
    from dsac.mapping.fine_tuning import FineTuningProgress

out = Console(highlight=False, markup=False)  # file names may hold square brackets
err = Console(stderr=True, highlight=False, markup=False)


@contextmanager
def one_object(wanted: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that prints a JSON object; where that is `wanted`, nothing else reaches standard output."""
    before, out.quiet = out.quiet, wanted
    try:
        yield lambda values: print(json.dumps(values, ensure_ascii=False, allow_nan=False)) if wanted else None
    finally:
        out.quiet = before


def print_mistake(error: Exception) -> None:
    """One line."""
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    elif is_out_of_memory(error):
        wanted = re.search(r"tried to allocate ([\d.]+ \w+)", message, re.IGNORECASE)
        message = "not enough memory" + (f", {wanted[1]} wanted" if wanted else "")
    err.print(f"dsac: {' '.join(message.split())}", style="red", soft_wrap=True)


def is_out_of_memory(error: Exception) -> bool:
    """PyTorch has a type of its own for the memory of a GPU, and none for that of the machine."""
    signs = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars with a `note` each, which is cut to what is left of the line."""
    left = Column(no_wrap=True, max_width=max(1, err.width - 53))
    columns = (
        TextColumn("{task.description:>13}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", table_column=left),
    )
    with Progress(*columns, console=err) as bars:
        yield bars


@contextmanager
def bars_of_phases() -> Iterator[Callable[[str, float, str], None]]:
    """A function that shows what is done, its fraction and a note: a bar for each, from when it begins.

    Before the first nothing is drawn, so that wrong input is a line by itself.
    """
    bars: list[Progress] = []
    tasks: dict[str, TaskID] = {}
    with ExitStack() as stack:

        def show(phase: str, fraction: float, note: str) -> None:
            if not bars:
                bars.append(stack.enter_context(progress_bars()))
            if phase not in tasks:
                tasks[phase] = bars[0].add_task(phase, total=1.0, note=note)
            bars[0].update(tasks[phase], completed=fraction, note=note)

        yield show


def let_kernels_compile() -> None:
    """Wait for what is done once after an install, with a word and a bar."""
    from dsac.kernels import compiled, wait_until_compiled

    if not compiled():
        with progress_bars() as bars:
            bars.add_task("compile", total=None, note="")
            wait_until_compiled()


@contextmanager
def training_progress(
    log_path: Path, checkpoint: Path, resume: bool
) -> Iterator[Callable[[MappingProgress | FineTuningProgress, str], None]]:
    """A function that shows progress and a note: a bar for each phase, and in the log a line of JSON each time.

    Work that fails leaves a log only where it leaves a checkpoint.
    """
    begun = False
    with bars_of_phases() as show_bar:

        def show(progress: MappingProgress | FineTuningProgress, note: str) -> None:
            nonlocal begun
            values = {name: value for name, value in asdict(progress).items() if value == value}  # no NaN
            with open(log_path, "a" if begun or resume else "w") as log:
                log.write(json.dumps(values) + "\n")
            begun = True
            show_bar(PHASES[progress.phase], progress.fraction, note)

        try:
            yield show
        except BaseException:
            if begun and not checkpoint.is_file():
                log_path.unlink(missing_ok=True)
            raise


PHASES = {
    "depth": "triangulate",
    "landmarks": "find landmarks",
    "features": "encode views",
    "scoring": "score network",
    "training": "train",
}
