"""Judges what a run left in ledger, journal and records, and the answers that clients got."""
