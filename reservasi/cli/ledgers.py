"""`reservasi ledger`: the ledger's servers."""

from reservasi.cli.on_demand import Listed, group_of

app = group_of(
    (
        Listed(
            "compare",
            "ledger_compare:compare_ledgers",
            "Show what each side has after a failover, and what to do next; changes nothing.",
        ),
    ),
    help="The ledger's servers.",
)
