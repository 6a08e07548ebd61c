"""Finds the ledger's servers: one primary, the primary that Sentinel names, or a cluster."""
