"""The directory in which all fronts of one `reservasi api` count together.

Apart from `metrics.py`, since the metrics library looks for the variable when it is imported.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "reservasi-metrics-"


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let this process and its forks count into one directory: the given one, or a new one that is removed at the end.

    To be entered before the metrics library is imported.
    """
    if VARIABLE in os.environ:
        yield
        return
    directory, process_id = tempfile.mkdtemp(prefix=PREFIX), os.getpid()
    os.environ[VARIABLE] = directory
    try:
        yield
    finally:
        if os.getpid() == process_id:  # a fork that ends comes here as well
            shutil.rmtree(directory, ignore_errors=True)
