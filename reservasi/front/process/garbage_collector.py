"""Configures a front's garbage collector, so that it has little to do under load."""

import gc

YOUNG_OBJECTS = 10_000  # allocated containers before the collector runs


def set_aside_what_stays() -> None:
    """Exclude modules, view and catalogue from garbage collection: they live as long as the process.

    Also raise the threshold for young objects: a request leaves no cycles, but the objects of pending requests would be
    traversed again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
