"""`reservasi db check`: whether the records' schema is the needed one."""

import typer

from reservasi.cli.invocation import configured, run
from reservasi.cli.output import EXIT_FAILED, AsJson, DataDir, PostgresDsn, show


def check(data_dir: DataDir = None, postgres_dsn_: PostgresDsn = None, as_json: AsJson = False) -> None:
    """Check that the schema is the one that this version needs; exit 1 when it is not."""
    from reservasi.bootstrap.addresses import postgres_dsn
    from reservasi.records import revision

    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn_)
    state = run(revision.check(postgres_dsn(settings)))
    show({"schema": state.current, "wanted": state.wanted, "up_to_date": state.up_to_date}, as_json=as_json)
    if not state.up_to_date:
        raise typer.Exit(EXIT_FAILED)
