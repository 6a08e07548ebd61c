"""Refuses names in a command's filters that a program does not have, and lists the names that it has."""

import difflib
from collections.abc import Collection, Sequence
from typing import Protocol

import typer

from reservasi.cli.output import EXIT_USAGE, fail
from reservasi.model import Quota
from reservasi.programs import Program

LISTED_MAX = 20


class Named(Protocol):
    """An object that names offices, services and channels of a program; None: any."""

    @property
    def service(self) -> str | None:
        """A service's id."""

    @property
    def channel(self) -> str | None:
        """A channel's id."""

    @property
    def offices(self) -> Sequence[str]:
        """Offices' ids; empty: any."""


def refuse_unknown(program: Program, quotas: Collection[Quota], named: Named, *, as_json: bool) -> None:
    """End the command as a usage error if an office, service or channel is neither in the file nor in a quota.

    Quotas of names that were removed from the file can still be selected.
    """
    names: dict[str, tuple[Sequence[str | None], set[str]]] = {
        "office": (named.offices, {each.id for each in program.offices}),
        "service": ((named.service,), {each.id for each in program.services}),
        "channel": ((named.channel,), {each.id for each in program.channels}),
    }
    for kind, (all_asked, names_known) in names.items():
        for name in all_asked:
            if name is None or name in names_known or any(getattr(quota.terms, kind) == name for quota in quotas):
                continue
            fail(f"--{kind}: {no_such(kind, name, program.id, sorted(names_known))}", as_json=as_json)
            raise typer.Exit(EXIT_USAGE)


def no_such(kind: str, name: str, program: str, names_known: Sequence[str]) -> str:
    """The message for an unknown office, service or channel, with similar and existing names."""
    near = difflib.get_close_matches(name, names_known, n=3, cutoff=0.6)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    more = f" and {len(names_known) - LISTED_MAX} more" if len(names_known) > LISTED_MAX else ""
    return f"{program} has no {kind} {name}.{meant} It has: {', '.join(names_known[:LISTED_MAX])}{more}"
