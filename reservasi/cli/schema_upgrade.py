"""`reservasi db upgrade`: bring the records' schema to this version."""

from reservasi.cli.invocation import configured, run
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, show


def upgrade(data_dir: DataDir = None, postgres_dsn_: PostgresDsn = None, as_json: AsJson = False) -> None:
    """Apply the missing migrations."""
    from reservasi.bootstrap.addresses import postgres_dsn
    from reservasi.records import upgrades

    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn_)
    state = run(upgrades.upgrade(postgres_dsn(settings)))
    show({"schema": state.current, "wanted": state.wanted, "up_to_date": state.up_to_date}, as_json=as_json)
