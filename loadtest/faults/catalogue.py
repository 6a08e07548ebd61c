"""Every fault there is, in the order of the table."""

from loadtest.faults import callers, contents, processes, rebuilding, stores

FAULTS = (*processes.FAULTS, *callers.FAULTS, *stores.FAULTS, *contents.FAULTS, *rebuilding.FAULTS)
