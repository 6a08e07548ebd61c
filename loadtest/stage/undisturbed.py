"""Measuring without the pauses of the measuring process itself."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let the garbage collector look only at what comes meanwhile.

    A look at all that a load generator has takes a tenth of a second, in which the server would seem to stand still.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
