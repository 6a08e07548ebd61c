"""`reservasi quota show PROGRAM`: selects quotas, and prints a page of them."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, get_args

import msgspec
import typer

from reservasi import quota_state
from reservasi.cli.moments import local_moment
from reservasi.cli.output import counted, hint, moment, out, print_json, show_rows
from reservasi.model import QUOTAS_MAX, Quota
from reservasi.quota_state import QuotaState

TERMINAL_ROWS = 100  # default on a terminal; other readers get more
OTHER_ROWS = 1000
STATES: tuple[str, ...] = get_args(QuotaState)

Office = Annotated[str | None, typer.Option(help="only quotas of this office")]
Service = Annotated[str | None, typer.Option(help="only quotas of this service")]
Channel = Annotated[str | None, typer.Option(help="only quotas of this channel")]
First = Annotated[dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first date; else any")]
Last = Annotated[dt.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last date; else any")]
State = Annotated[str | None, typer.Option("--state", help=f"only quotas in this state: {', '.join(STATES)}")]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=QUOTAS_MAX,
        help=f"rows per page; {TERMINAL_ROWS} on a terminal, else {OTHER_ROWS}, and all of them with --json",
    ),
]
Page = Annotated[int, typer.Option(min=1, help="which page")]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A selection of a program's quotas; None: any."""

    office: str | None = None
    service: str | None = None
    channel: str | None = None
    first: str | None = None  # ISO dates, both included
    last: str | None = None
    state: str | None = None

    @property
    def offices(self) -> tuple[str, ...]:
        """The office, if one is named."""
        return () if self.office is None else (self.office,)

    def fits(self, quota: Quota, now_ms: int) -> bool:
        """Whether the quota is selected."""
        terms = quota.terms
        return (
            self.office in (None, terms.office)
            and self.service in (None, terms.service)
            and self.channel in (None, terms.channel)
            and (self.first is None or terms.date >= self.first)
            and (self.last is None or terms.date <= self.last)
            and (self.state is None or quota_state.state_of(quota, now_ms) == self.state)
        )


def wanted_quotas(
    *,
    office: str | None,
    service: str | None,
    channel: str | None,
    first: dt.datetime | None,
    last: dt.datetime | None,
    state: str | None,
) -> Wanted:
    """The selection of the flags.

    Raises:
        typer.BadParameter: there is no such state, or the dates are in the wrong order.
    """
    if state is not None and state not in STATES:
        raise typer.BadParameter(f"{state} is not one of {', '.join(STATES)}", param_hint="--state")
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"{first.date()} is after {last.date()}", param_hint="--from")
    return Wanted(
        office=office,
        service=service,
        channel=channel,
        first=first.date().isoformat() if first else None,
        last=last.date().isoformat() if last else None,
        state=state,
    )


def show_page(
    quotas: Sequence[Quota], *, now_ms: int, zone: dt.tzinfo, limit: int | None, page: int, as_json: bool
) -> None:
    """Print one page of quotas, and their total number on standard error."""
    if as_json and limit is None and page == 1:
        print_json([describe(quota, now_ms) for quota in quotas])
        return
    rows_max = limit or (TERMINAL_ROWS if out.is_terminal else OTHER_ROWS)
    first = (page - 1) * rows_max
    rows = [describe(quota, now_ms) for quota in quotas[first : first + rows_max]]
    if as_json:
        print_json(rows)
    else:
        show_rows([_for_people(row, zone) for row in rows], as_json=False)
    if len(rows) == len(quotas):
        hint(counted(len(quotas), "quota"))
    elif rows:
        pages = -(-len(quotas) // rows_max)
        more = f"; more with --page {page + 1}" if page < pages else ""
        hint(f"{first + 1} to {first + len(rows)} of {len(quotas)} quotas (page {page} of {pages}){more}")
    else:
        hint(f"no page {page}: there are {len(quotas)} quotas, {rows_max} a page")


def describe(quota: Quota, now_ms: int) -> dict[str, Any]:
    """A quota's fields for people and programs."""
    terms, counts = quota.terms, quota.counts
    return {
        "id": quota.id,
        "office": terms.office,
        "service": terms.service,
        "channel": terms.channel,
        "date": terms.date,
        "start": terms.start,
        "end": terms.end,
        "capacity": terms.capacity,
        "held": counts.held,
        "confirmed": counts.confirmed,
        "returning": counts.returning,
        "remaining": quota.remaining,
        "state": quota_state.state_of(quota, now_ms),
        "opens_at": moment(terms.opens_at_ms),
        "closes_at": moment(terms.closes_at_ms),
        "closed": terms.closed,
        "version": counts.version,
    }


def _for_people(row: dict[str, Any], zone: dt.tzinfo) -> dict[str, Any]:
    """The columns for a terminal: the id contains office, service, date, start and channel."""
    shown = {name: row[name] for name in ("id", "state", "capacity", "held", "confirmed", "returning", "remaining")}
    return {
        **shown,
        "opens": local_moment(row["opens_at"], zone) or "at once",
        "closes": local_moment(row["closes_at"], zone),
    }
