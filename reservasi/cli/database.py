"""`reservasi db`: the schema of the records."""

from reservasi.cli.on_demand import Listed, group_of

app = group_of(
    (
        Listed("upgrade", "schema_upgrade:upgrade", "Apply the missing migrations."),
        Listed(
            "check",
            "schema_check:check",
            "Check that the schema is the one that this version needs; exit 1 when it is not.",
        ),
    ),
    help="The records' schema.",
)
