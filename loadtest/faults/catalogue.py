"""Every fault there is, in the order of the table."""

from loadtest.faults import (
    callers,
    clocks,
    copies,
    disks,
    dumps,
    entries,
    killing,
    memory,
    outages,
    power,
    rebuilding,
    removals,
    replies,
    restarts,
    shutdown,
    values,
)

FAULTS = (
    *killing.FAULTS,
    *restarts.FAULTS,
    *replies.FAULTS,
    *callers.FAULTS,
    *power.FAULTS,
    *disks.FAULTS,
    *outages.FAULTS,
    *memory.FAULTS,
    *clocks.FAULTS,
    *shutdown.FAULTS,
    *copies.FAULTS,
    *dumps.FAULTS,
    *values.FAULTS,
    *entries.FAULTS,
    *removals.FAULTS,
    *rebuilding.FAULTS,
)
