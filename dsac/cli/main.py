"""From the command line to a verb, and from what happened to an exit code.

A new verb is a file with a dataclass of its options and a method `run`, and a place in `VERBS`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated, Protocol, Union, runtime_checkable

import tyro
from rich.logging import RichHandler

import dsac
from dsac.cli.align import Align
from dsac.cli.bench import Bench
from dsac.cli.check import Check
from dsac.cli.console import err, is_out_of_memory, print_mistake
from dsac.cli.convert import Convert
from dsac.cli.crop import Crop
from dsac.cli.demo import Demo
from dsac.cli.evaluate import Evaluate
from dsac.cli.export import Export
from dsac.cli.extend import Extend
from dsac.cli.fine_tune import FineTune
from dsac.cli.frames import Frames
from dsac.cli.info import Info
from dsac.cli.localize import Localize
from dsac.cli.map import Map
from dsac.cli.merge import Merge
from dsac.cli.options import check_numbers
from dsac.cli.process import keep_freed_memory, let_decoders_be_silent
from dsac.cli.render import Render
from dsac.cli.track import Track
from dsac.cli.warm_up import WarmUp
from dsac.errors import DsacError

VERBS = (
    Demo,
    Check,
    Map,
    FineTune,
    Localize,
    Track,
    Evaluate,
    Info,
    Align,
    Merge,
    Extend,
    Crop,
    Convert,
    Export,
    Frames,
    Render,
    Bench,
    WarmUp,
)  # in the order in which the help shows them


@runtime_checkable
class Verb(Protocol):
    """A command with its options."""

    def run(self) -> None:
        """Raises: `DsacError` or `OSError` for what the user can mend."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code (0 good, 2 a mistake that the message explains, 130 interrupted).

    Without arguments it shows what `dsac --help` does.
    """
    keep_freed_memory()
    let_decoders_be_silent()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"dsac {dsac.__version__}")
        return 0
    verb = _parse(words or ["--help"])
    handler = RichHandler(console=err, show_time=False, show_path=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    try:
        check_numbers(verb)
        verb.run()
        return 0
    except KeyboardInterrupt:
        err.print("interrupted", style="yellow")
        return 130
    except (DsacError, OSError) as error:
        print_mistake(error)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print_mistake(error)
        return 2


def _parse(words: list[str]) -> Verb:
    """Raises: `SystemExit` with 0 after showing help, with 2 after explaining what cannot be understood."""
    verbs: list[object] = list(VERBS)
    if words[0] in ("-h", "--help"):  # of every verb the first line
        verbs = [
            Annotated[verb, tyro.conf.subcommand(description=(verb.__doc__ or "").partition("\n")[0])]
            for verb in VERBS
        ]
    return tyro.cli(
        Annotated[Union[tuple(verbs)], tyro.conf.arg(name="")],  # type: ignore[arg-type]  # noqa: UP007
        prog="dsac",
        description="Where was this photo taken? Maps a place from posed images, localizes photos in it.",
        args=words,
        config=(
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.DisallowNone,
            tyro.conf.PositionalMetavarFromFieldName,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
