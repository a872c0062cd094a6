"""Ctrl-C at a step of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

from dsac.mapping import FineTuningProgress


def interrupt_at(step: int) -> Callable[[FineTuningProgress], None]:
    def on_progress(progress: FineTuningProgress) -> None:
        if progress.phase == "training" and progress.step == step:
            raise KeyboardInterrupt

    return on_progress
