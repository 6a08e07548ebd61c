"""Runs of the service as functions of a seed: virtual time, a network that loses and repeats, a real Valkey.

`python -m tests.simulation SEED` repeats one run with its trace. What is real: group commit, ledger connection, Lua,
journal, view, recorded positions, reservations, waiting room, recorder, sweeper, admission. What stands in: the event
loop (`loop.py`), the network (`network.py`), the ledger's clock, PostgreSQL (`records.py`) and HTTP (`people.py`).
"""
