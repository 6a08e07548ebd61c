"""Opens and closes the object graph explicitly, in one place. Nothing is opened at import.

`fronts.open_front` builds the objects of a front process, `worker.open_worker` those of a worker process,
`commands.open_operations` those of a command, and `records.open_records_operations` those of a command that does not
need the ledger. Each closes what it opened, in reverse order. Nothing is imported here, so that each process loads only
what it runs.
"""
