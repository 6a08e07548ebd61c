"""Opening and closing the graph of objects, explicitly and in one place. Nothing is opened at import.

`fronts.open_front` builds what a front process needs, `worker.open_worker` what a worker process needs,
`commands.open_operations` what a command of the command line needs, and `records.open_records_operations` what one
needs that asks nothing of the ledger. Each closes what it opened, in the reverse order. Nothing is imported here, so
that each process loads only what it runs.
"""
