"""What most scripts of this folder share: where their tables go, and one line for wrong input."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsac.errors import DsacError

RESULTS = Path(__file__).parent / "results"


def table_parser(about: str | None) -> argparse.ArgumentParser:
    """For a script with that docstring which writes tables: it takes the folder for them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the table")
    return parser


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> None:
    """Do a script's work with its arguments, the folder of `table_parser` made."""
    arguments = parser.parse_args()
    with one_line_errors(parser):
        arguments.output.mkdir(parents=True, exist_ok=True)
        work(arguments)


@contextmanager
def one_line_errors(parser: argparse.ArgumentParser, interrupted: str = "interrupted") -> Iterator[None]:
    """End the process with a line for input that cannot be used, and for Ctrl-C, instead of a traceback."""
    try:
        yield
    except (DsacError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{interrupted}\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """What was measured before, a line each; nothing where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add_record(path: Path, record: dict[str, Any]) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")


def write_table(folder: Path, name: str, lines: list[str]) -> None:
    """Print the lines and write them to a file."""
    text = "\n".join(lines) + "\n"
    print(text)
    (folder / name).write_text(text)
