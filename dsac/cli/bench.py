"""`dsac bench`: our pose solver beside others, timed here and now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table

from dsac.cli.console import out, progress_bars
from dsac.cli.options import Maybe, Positional
from dsac.cli.outputs import check_writable
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.studies.solver_benchmark import Row


@dataclass(frozen=True)
class Bench:
    """Time our pose solver beside the ones that are installed (PoseLib, OpenCV, pycolmap), and on a batch.

    For example:
      $ OMP_NUM_THREADS=1 dsac bench solver --output results
    """

    what: Positional[Literal["solver"]]
    """What to time."""
    inputs: Maybe[Path] = None
    """Folder with files input_r*.npz of scene coordinates; default: those of the synthetic scene, made here."""
    frames: int = 50
    """Frames of each input."""
    repeats: int = 3
    """Runs on each frame."""
    output: Maybe[Path] = None
    """Folder for solver.md, solver.json and solver.png."""

    def run(self) -> None:
        from dsac.studies.solver_benchmark import benchmark_solvers
        from dsac.studies.solver_tables import titled_tables, write_results

        for name, count in (("frames", self.frames), ("repeats", self.repeats)):
            if count < 1:
                raise DsacError(f"{name}: expected 1 or more, got {count}")
        if self.output is not None:
            for name in ("solver.md", "solver.json", "solver.png"):
                check_writable(self.output / name, make_folder=True)

        with progress_bars() as bars:
            task = bars.add_task("time solvers", total=None, note="")

            def on_input(rows: list[Row]) -> None:
                bars.update(task, advance=1, note=f"{rows[0].input}: {rows[0].cpu_ms:.2f} ms")

            results = benchmark_solvers(self.inputs, self.frames, self.repeats, on_input)
        for title, cells in titled_tables(results):
            _print_table(title, cells)
        out.print(results.about, style="dim", soft_wrap=True)
        if self.output is not None:
            write_results(results, self.output)


def _print_table(title: str, rows: list[list[str]]) -> None:
    header, *lines = zip(*rows, strict=True)  # a line an input: there are many
    table = Table(title=title, title_justify="left", box=None)
    for name in header:
        table.add_column(name, justify="left" if not name else "right")
    for cells in lines:
        table.add_row(*cells)
    out.print(table)
