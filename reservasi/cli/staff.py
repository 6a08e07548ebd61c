"""`reservasi staff`: who may call the staff API."""

import secrets
from typing import Annotated

import typer

from reservasi.bootstrap import Operations, open_operations
from reservasi.cli.invocation import configured, run
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, show
from reservasi.model import StaffRole

app = typer.Typer(help="Staff and their API keys.", no_args_is_help=True)

KEY_BYTES = 32


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="whose key this is")],
    role: Annotated[StaffRole, typer.Option(help="what they may do")] = StaffRole.OPERATOR,
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Add a member of staff and print their API key, which is shown this once and stored only as a hash."""
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter("a name, please: it stands beside what they change", param_hint="NAME")
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> str:
        async with open_operations(settings) as operations:
            return await add_staff(operations, name, role)

    show({"name": name, "role": role, "api_key": run(work())}, as_json=as_json)


async def add_staff(operations: Operations, name: str, role: StaffRole) -> str:
    """Store a member of staff; returns their new API key."""
    api_key = f"rsv_{secrets.token_urlsafe(KEY_BYTES)}"
    await operations.records.add_staff(name, role, operations.sealing.api_key_hash(api_key))
    return api_key
