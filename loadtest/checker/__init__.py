"""Judges what a run left in ledger, journal and records, and what the clients were told."""
