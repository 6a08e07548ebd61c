"""`reservasi up`: its flags; the work is in `whole_service`."""

from typing import Annotated

import typer

from reservasi.cli.output import AsJson, DataDir
from reservasi.cli.service_flags import DEMO_OPENING_IN_S, AdminPort, Host, PortFlag, Processes


def up(
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help="load config/programs and open the quotas now, those of the last date in two minutes"
        ),
    ] = False,
    demo_opening_in: Annotated[
        int, typer.Option("--demo-opening-in", min=1, max=86_400, help="seconds until those of the last date open")
    ] = DEMO_OPENING_IN_S,
    host: Host = None,
    port: PortFlag = None,
    admin_port: AdminPort = None,
    processes: Processes = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Start Valkey, PostgreSQL, the worker and the fronts; Ctrl-C stops them all."""
    from reservasi.cli.whole_service import start

    flags: dict[str, object] = {
        "host": host,
        "port": port,
        "admin_port": admin_port,
        "processes": processes,
        "data_dir": data_dir,
    }
    start(flags, demo_opening_in if demo else None, as_json=as_json)
