"""Flags of the commands that run a service."""

from typing import Annotated

import typer

DEMO_OPENING_IN_S = 120
Host = Annotated[str | None, typer.Option("--host", help="address to listen on")]
PortFlag = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="port of the public API")]
AdminPort = Annotated[int | None, typer.Option("--admin-port", min=0, max=65535, help="port for probes and metrics")]
Processes = Annotated[int | None, typer.Option("--processes", min=0, help="front processes; 0: one per core")]
Programs = Annotated[
    str | None, typer.Option("--programs", help="ids or patterns, separated by commas; other programs are not served")
]
