"""Time of the encoders that ship, in turns, on one thread. Writes results/encoder.md.

python benchmarks/encoder.py [--repeats 100]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from scripts import run, table_parser, write_table

from dsac.cli import keep_freed_memory
from dsac.networks.encoder import ENCODERS, fast_dtype, load_encoder

SIZES = ((320, 240), (640, 480))  # of a query, as it is encoded by default; of its photo


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Writes the table."""
    torch.set_num_threads(1)
    keep_freed_memory()
    encoders = {id: load_encoder(id) for id in ENCODERS}
    command = f"python benchmarks/encoder.py --repeats {arguments.repeats}"
    lines = [
        "# Time of the encoders",
        "",
        f"`{command}`, one thread, {fast_dtype('cpu')}: median and least milliseconds;",
        "ratio: the median of those in turns.",
        "",
        f"| image | {' | '.join(ENCODERS)} | ratio |",
        "|---" * (len(ENCODERS) + 2) + "|",
    ]
    for width, height in SIZES:
        pixels = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))
        image = pixels.permute(0, 3, 1, 2)  # in memory like a photo that was read
        times: dict[str, list[float]] = {id: [] for id in ENCODERS}
        with torch.inference_mode():
            for repeat in range(-5, arguments.repeats):
                for id, encoder in encoders.items():
                    begin = time.perf_counter()
                    encoder(image)
                    if repeat >= 0:
                        times[id].append(1e3 * (time.perf_counter() - begin))
        cells = [f"{statistics.median(each):.1f}, {min(each):.1f}" for each in times.values()]
        ratio = statistics.median(a / b for a, b in zip(times[ENCODERS[0]], times[ENCODERS[1]], strict=True))
        lines.append(f"| {width}×{height} | {' | '.join(cells)} | {ratio:.2f} |")
    write_table(arguments.output, "encoder.md", lines)


if __name__ == "__main__":
    main()
