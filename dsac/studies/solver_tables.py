"""What the timing of solvers found, as tables, files and a chart."""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import asdict
from pathlib import Path

from dsac.datasets.storage import write_atomically
from dsac.studies.solver_benchmark import Results, Row, Throughput, threads
from dsac.studies.solvers import OURS


def write_results(results: Results, folder: Path) -> None:
    """solver.md, solver.json and, where matplotlib is there, solver.png; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "solver.md", markdown(results).encode())
    write_atomically(folder / "solver.json", json.dumps(asdict(results), indent=1).encode())
    if importlib.util.find_spec("matplotlib") is not None:
        write_atomically(folder / "solver.png", plot(results.rows))


TABLES = (
    ("CPU ms an image", "cpu_ms", 2),
    ("times ours (median of the frames' ratios)", "times_ours", 1),
    ("% within 5 cm, 5°", "found_percent", 0),
    ("median error, cm", "median_cm", 2),
)


def table(rows: list[Row], column: str, digits: int) -> list[list[str]]:
    """A line a solver: its name, then the column's value on each input."""
    inputs = list(dict.fromkeys(row.input for row in rows))
    values = {(row.solver, row.input): f"{getattr(row, column):.{digits}f}" for row in rows}
    solvers = dict.fromkeys(row.solver for row in rows)
    return [["", *inputs], *([name, *(values[name, i] for i in inputs)] for name in solvers)]


def throughput_table(throughputs: list[Throughput]) -> list[list[str]]:
    """A line a number of threads: images a second on each input."""
    numbers = [("1 thread", "one_thread"), (f"{threads()} threads", "all_threads")][: threads()]
    lines = [[name, *(f"{getattr(t, column):.0f}" for t in throughputs)] for name, column in numbers]
    return [["", *(t.input for t in throughputs)], *lines]


def titled_tables(results: Results) -> list[tuple[str, list[list[str]]]]:
    """All tables, each with what its numbers are; the first line of a table names the inputs."""
    tables = [(title, table(results.rows, column, digits)) for title, column, digits in TABLES]
    return [*tables, ("images a second, a batch of 250", throughput_table(results.throughputs))]


def markdown(results: Results) -> str:
    lines = ["# Pose solvers on dense scene coordinates", "", results.about, ""]
    for title, ((_, *inputs), *rest) in titled_tables(results):
        lines += [f"| {title} | " + " | ".join(inputs) + " |", "|---" * (len(inputs) + 1) + "|"]
        lines += ["| " + " | ".join(cells) + " |" for cells in rest] + [""]
    return "\n".join(lines)


def plot(rows: list[Row]) -> bytes:
    """A PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, suffix, title in zip(axes, ("", "_blob"), ("scattered", "in patches"), strict=True):
        for name in dict.fromkeys(row.solver for row in rows):
            chosen = [r for r in rows if r.solver == name and r.input.endswith("_blob") == bool(suffix)]
            ratios = [int(r.input[1:3]) / 100 for r in chosen]
            axis.plot(ratios, [r.cpu_ms for r in chosen], "o-", label=name, lw=3 if name == OURS else 1)
        axis.set(xlabel="share of right predictions", title=f"right predictions {title}", yscale="log")
        axis.grid(True, which="both", alpha=0.3)
    axes[0].set_ylabel("CPU ms an image")
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, fontsize=8, frameon=False, loc="lower center", ncols=len(names))
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    data = io.BytesIO()
    figure.savefig(data, dpi=120)
    pyplot.close(figure)
    return data.getvalue()
