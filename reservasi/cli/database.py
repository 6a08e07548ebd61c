"""`reservasi db`: the schema of the records."""

from reservasi.cli.on_demand import Listed, group_of

app = group_of(
    (
        Listed("upgrade", "schema_upgrade:upgrade", "Apply the migrations that are missing."),
        Listed(
            "check",
            "schema_check:check",
            "Say whether the schema is the one this version wants; exit 1 when it is not.",
        ),
    ),
    help="The records' schema.",
)
