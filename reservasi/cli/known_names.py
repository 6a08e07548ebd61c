"""Names in a command's filters that a program does not have: refused, with the names that it has."""

import difflib
from collections.abc import Collection, Sequence
from typing import Protocol

import typer

from reservasi.cli.output import EXIT_USAGE, fail
from reservasi.model import Quota
from reservasi.programs import Program

LISTED_MAX = 20


class Named(Protocol):
    """What names offices, services and channels of a program; None: any."""

    @property
    def service(self) -> str | None:
        """A service's id."""

    @property
    def channel(self) -> str | None:
        """A channel's id."""

    @property
    def offices(self) -> Sequence[str]:
        """Offices' ids; none: any."""


def refuse_unknown(program: Program, quotas: Collection[Quota], named: Named, *, as_json: bool) -> None:
    """End the command as wrongly used where an office, service or channel is neither in the file nor in a quota.

    Quotas of what was taken out of the file can still be asked for.
    """
    names: dict[str, tuple[Sequence[str | None], set[str]]] = {
        "office": (named.offices, {each.id for each in program.offices}),
        "service": ((named.service,), {each.id for each in program.services}),
        "channel": ((named.channel,), {each.id for each in program.channels}),
    }
    for kind, (all_asked, known) in names.items():
        for asked in all_asked:
            if asked is None or asked in known or any(getattr(quota.terms, kind) == asked for quota in quotas):
                continue
            fail(f"--{kind}: {no_such(kind, asked, program.id, sorted(known))}", as_json=as_json)
            raise typer.Exit(EXIT_USAGE)


def no_such(kind: str, asked: str, program: str, known: Sequence[str]) -> str:
    """That the program has no such office, service or channel, what may have been meant, and what it has."""
    near = difflib.get_close_matches(asked, known, n=3, cutoff=0.6)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    more = f" and {len(known) - LISTED_MAX} more" if len(known) > LISTED_MAX else ""
    return f"{program} has no {kind} {asked}.{meant} It has: {', '.join(known[:LISTED_MAX])}{more}"
