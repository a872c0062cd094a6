"""What checks annotations while testing: beartype, at the first calls of a function in each test.

A check takes longer than many a function; what that is given and gives is seen at its first calls.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

CHECKED_CALLS = 20
calls: Counter[int] = Counter()  # in this test, by the function's code

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # whole numbers are floats as well (PEP 484)
_every_call_checked = jaxtyping.jaxtyped


def first_calls_checked(*, typechecker: Callable) -> Callable[[Any], Any]:
    """What the import hook decorates with, as `jaxtyping.jaxtyped`; a check is made when it is needed."""

    def decorate(subject: Any) -> Any:
        if isinstance(subject, type):
            if is_dataclass(subject) and not hasattr(subject.__init__, "__wrapped__"):
                subject.__init__ = decorate(subject.__init__)  # type: ignore[method-assign]
            return subject
        code, check = id(subject.__code__), None

        @functools.wraps(subject)
        def call(*arguments: Any, **named: Any) -> Any:
            __tracebackhide__ = True
            nonlocal check
            if calls[code] >= CHECKED_CALLS:
                return subject(*arguments, **named)
            calls[code] += 1
            if check is None:
                check = _every_call_checked(subject, typechecker=typechecker)
            return check(*arguments, **named)

        return call

    return decorate
