"""Trials of ledger libraries: each plays a short run of every command, which the checker judges afterwards."""
