"""Where the ledger's servers are: one primary, whoever Sentinel says is the primary, or a cluster."""
