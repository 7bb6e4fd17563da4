"""The one exception whose message is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Wrong input: the message is one sentence that says what is wrong, where, and what to do."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Phrase that offers the closest known names, for the end of an error message."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"known: {shown or 'none'}"


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Turns what a constructor objects to into a message about the configuration key ``where``."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {error}") from error
