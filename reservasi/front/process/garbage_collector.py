"""How a front's garbage collector is set, so that it finds little to do while a crowd is served."""

import gc

YOUNG_OBJECTS = 10_000  # containers made and not yet freed before the collector looks


def set_aside_what_stays() -> None:
    """Take modules, view and catalogue out of the garbage collector's rounds: they live as long as the process.

    And let it look less often at what is young: a request leaves no cycles, but while a batch is under way, what its
    requests are made of would be walked again and again for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
