"""`reservasi quota`: look at a quota, change it, close it. To look imports nothing that only a change needs."""

from reservasi.cli.on_demand import Listed, group_of

COMMANDS = (
    Listed(
        "show", "quota_show:show_quota", "Show one quota, or those of a program that fit, as the ledger has them now."
    ),
    Listed("set", "quota_change:set_quota", "Change a quota's capacity or opening, also while it is open."),
    Listed(
        "close",
        "quota_change:close_quota",
        "Take no more claims for a quota, or for a whole day; what is held or confirmed stays, and is listed.",
    ),
)
app = group_of(COMMANDS, help="Quotas: the places of one channel in one slot.")
