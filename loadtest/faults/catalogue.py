"""Every fault there is, in the order of the table."""

from loadtest.faults import clocks, copies, disks, killing, memory, outages, power, rebuilding, replies, shutdown

FAULTS = (
    *killing.FAULTS,
    *replies.FAULTS,
    *power.FAULTS,
    *disks.FAULTS,
    *outages.FAULTS,
    *memory.FAULTS,
    *clocks.FAULTS,
    *shutdown.FAULTS,
    *copies.FAULTS,
    *rebuilding.FAULTS,
)
