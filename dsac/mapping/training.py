"""The one training loop: update after update until the steps or the seconds are used up, or Ctrl-C ends it.

It knows nothing of what is trained but a `Learner`'s two members. Maps are made with it (`mapper`) and
fine-tuned (`fine_tuning`).
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError

_log = logging.getLogger(__name__)

Loss = TypeVar("Loss")
Loss_co = TypeVar("Loss_co", covariant=True)


@runtime_checkable
class Stateful(Protocol):
    """A module, an optimizer, or anything else with a state of its own."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...


Parts = Mapping[str, Stateful | torch.Generator]


@runtime_checkable
class Learner(Protocol[Loss_co]):
    """What the loop trains."""

    @property
    def parts(self) -> Parts:
        """All that a checkpoint must keep for training to go on as if it had not stopped."""
        ...

    def update(self, step: int, progress: float) -> Loss_co:
        """One step, given its number from 0 and how much of the training is done, 0 to 1."""
        ...


@dataclass(frozen=True)
class Standing:
    """Where a training stands."""

    step: int = 0
    progress: float = 0.0  # 0 to 1, of the steps or of the seconds
    seconds: float = 0.0  # of training, over all sittings
    elapsed: float = 0.0  # of this one
    remaining: float | None = None  # seconds
    interrupted: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """The file that a training writes on its way and goes on from; with no path, nothing is kept."""

    path: Path | None = None
    what: str = "a training"  # for messages
    identity: str = ""  # of what is trained; the checkpoint of another is refused
    state: Mapping[str, Any] | None = None  # to go on from

    @staticmethod
    def at(path: Path | None, what: str, resume: bool, identity: str = "") -> Checkpoint:
        """With `resume`, what is in the file if there is one.

        Raises: `MapFormatError` when it is damaged or of another identity.
        """
        if not resume or path is None or not path.is_file():
            return Checkpoint(path, what, identity)
        try:
            state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
            found = state.get("identity", "")
        except Exception as error:  # what a damaged file raises depends on where it is damaged
            raise MapFormatError(
                f"{path}: expected the checkpoint of {what}, got something else or half of one; "
                "start again without resuming"
            ) from error
        checkpoint = Checkpoint(path, what, identity, state)
        if found != identity:
            raise MapFormatError(checkpoint._of_another)
        return checkpoint

    @property
    def _of_another(self) -> str:
        return (
            f"{self.path}: expected the checkpoint of {self.what} with these settings, got another's; "
            "start again without resuming"
        )

    def restore(self, parts: Parts) -> Standing:
        """Put the parts into the kept state. Raises: `MapFormatError` when it is not theirs."""
        if self.state is None:
            return Standing()
        try:
            for name, part in parts.items():
                if isinstance(part, torch.Generator):
                    part.set_state(self.state[name].cpu())
                else:
                    part.load_state_dict(self.state[name])
            return Standing(step=self.state["step"], seconds=self.state["seconds"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise MapFormatError(self._of_another) from error

    def keep(self, parts: Parts, standing: Standing) -> None:
        """Write what `restore` reads."""
        if self.path is None:
            return
        states = {
            name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
            for name, part in parts.items()
        }
        state = {**states, "step": standing.step, "seconds": standing.seconds, "identity": self.identity}
        self.save(state)

    def save(self, state: Mapping[str, Any]) -> None:
        if self.path is not None:
            torch.save(state, data := io.BytesIO())
            write_atomically(self.path, data.getvalue())


def train(
    learner: Learner[Loss],
    *,
    steps: int,
    seconds: float | None = None,
    start: Standing = Standing(),  # noqa: B008 -- frozen
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008 -- frozen
    report: Callable[[Standing, Loss], None] = lambda standing, loss: None,
    report_every: float = 0.5,
) -> Standing:
    """Train from `start` on for `steps` in all or, where given, for `seconds`; an interrupt ends it early.

    `report` is called after the first step and then every `report_every` seconds. The checkpoint is written
    every half minute, at the end and at an interrupt; it is the caller's to remove, when what was trained is
    safe.
    """
    begin = last_save = time.monotonic()
    last_report, interrupted = 0.0, False
    step, trained = start.step, start.seconds

    def fraction_done() -> float:
        return step / steps if seconds is None else trained / seconds

    progress = first_progress = fraction_done()
    now = begin
    try:
        while True:
            trained = start.seconds + time.monotonic() - begin
            progress = fraction_done()
            if progress >= 1:
                break
            loss = learner.update(step, progress)
            step += 1
            now = time.monotonic()
            if now - last_report >= report_every or step == start.step + 1:
                last_report = now
                made = progress - first_progress
                remaining = (now - begin) / made * (1 - progress) if made > 0 else None
                report(Standing(step, progress, trained, now - begin, remaining), loss)
            if now - last_save >= _SAVE_EVERY:
                last_save = now
                checkpoint.keep(learner.parts, Standing(step, seconds=trained))
    except KeyboardInterrupt:
        interrupted = True
    end = Standing(step, min(1.0, progress), trained, now - begin, 0.0, interrupted)
    try:
        checkpoint.keep(learner.parts, end)
    except OSError as error:  # what was trained is in memory still, and may fit where a checkpoint does not
        _log.warning("%s: no checkpoint was written (%s)", checkpoint.path, error.strerror)
    return end


_SAVE_EVERY = 30.0  # seconds
