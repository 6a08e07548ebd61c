"""`reservasi quota`: show, change and close quotas. Showing does not import what only changes need."""

from reservasi.cli.on_demand import Listed, group_of

COMMANDS = (
    Listed("show", "quota_show:show_quota", "Show one quota, or the matching quotas of a program, from the ledger."),
    Listed("set", "quota_change:set_quota", "Change a quota's capacity or opening, also while it is open."),
    Listed(
        "close",
        "quota_change:close_quota",
        "Stop claims for a quota, or for a whole day; held and confirmed reservations stay and are listed.",
    ),
)
app = group_of(COMMANDS, help="Quotas: the places of one channel in one slot.")
