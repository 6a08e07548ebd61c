"""Random histories: batches of commands, and moments at which the time of a quota passes."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from reservasi.model import IMPORT_ACTOR, Cancel, Claim, Command, Confirm, Find, Release, Retire, SetQuota, Sweep
from tests.ledgers import HOUR_MS, terms

# Two where places return at once, two where they return late.
# The fourth is over; the last does not exist at the beginning.
QUOTAS = (
    "p.o.s.20261201.0800.online", "p.o.s.20261201.0900.online", "p.o.s.20261201.1000.online", "p.past", "p.new",
)  # fmt: skip
LONG_AGO_MS = 1
PAST = {"date": "2000-01-01", "start": "09:00", "end": "10:00"}  # of a quota that may be retired
PAST_END_MS = 946_720_800_000
LATER_MS = 4_000_000_000_000
FIRST_TERMS = {
    QUOTAS[0]: terms(4),
    QUOTAS[1]: terms(5, return_min_ms=HOUR_MS, return_max_ms=2 * HOUR_MS),
    QUOTAS[2]: terms(3, cancel_until_ms=LONG_AGO_MS),
    QUOTAS[3]: terms(4, **PAST),
}
IDS, PERSONS = 10, 12
# What each history starts from: three confirmed reservations, of which one may not be cancelled, and three holds.
FIRST: tuple[Command, ...] = (
    *(SetQuota(quota=quota, terms=of_quota) for quota, of_quota in FIRST_TERMS.items()),
    *(
        Claim(
            reservation_id=f"r{number}", quota=QUOTAS[number % 4], fingerprint="f", sealed="s", persons=(f"p{number}",)
        )
        for number in range(1, 7)
    ),
    *(Confirm(reservation_id=f"r{number}") for number in range(1, 4)),
)


@dataclass(frozen=True)
class Lapse:
    """Every deadline and return of a quota passes."""

    quota: str


@dataclass(frozen=True)
class Batch:
    """Commands that arrive together."""

    commands: tuple[Command, ...]


def _ids() -> st.SearchStrategy[str]:
    return st.integers(1, IDS).map(lambda number: f"r{number}")


def _quotas() -> st.SearchStrategy[str]:
    return st.sampled_from([*QUOTAS[:4], *QUOTAS[:4], *QUOTAS])


def _actors() -> st.SearchStrategy[str]:
    return st.sampled_from(["", "", "staff:ani", "cli:root", IMPORT_ACTOR, IMPORT_ACTOR])


@st.composite
def _claims(draw: st.DrawFn) -> Claim:
    persons = draw(st.lists(st.integers(1, PERSONS), min_size=1, max_size=3))
    return Claim(
        reservation_id=draw(_ids()),
        quota=draw(_quotas()),
        fingerprint=draw(st.sampled_from(["f", "f", "f", "g"])),
        sealed="s",
        persons=tuple(f"p{number}" for number in persons),
    )


@st.composite
def _quota_changes(draw: st.DrawFn) -> SetQuota:
    version = draw(st.sampled_from([0, 0, 1, 1, 2]))
    if draw(st.booleans()):
        late = {"return_min_ms": HOUR_MS, "return_max_ms": 2 * HOUR_MS} if draw(st.booleans()) else {}
        quota = draw(_quotas())
        changes: dict[str, Any] = {**late, **(PAST if quota == QUOTAS[3] else {})}
        return SetQuota(
            quota=quota, version=version, terms=terms(draw(st.integers(0, 6)), **changes), actor=draw(_actors())
        )
    return SetQuota(
        quota=draw(_quotas()),
        version=version,
        capacity=draw(st.none() | st.integers(0, 6)),
        opens_at_ms=draw(st.sampled_from([None, None, 0, LONG_AGO_MS, LATER_MS])),
        closes_at_ms=draw(st.sampled_from([None, None, 0, LONG_AGO_MS, LATER_MS])),
        closed=draw(st.sampled_from([None, None, False, True])),
        actor=draw(_actors()),
    )


@st.composite
def _retirements(draw: st.DrawFn) -> Retire:
    return Retire(
        quota=draw(st.sampled_from([QUOTAS[3], QUOTAS[3], QUOTAS[0]])),
        ends_at_ms=draw(st.sampled_from([PAST_END_MS, PAST_END_MS, PAST_END_MS, LONG_AGO_MS, LATER_MS])),
        reservations=tuple(draw(st.lists(_ids(), max_size=IDS, unique=True))),
    )


def _commands() -> st.SearchStrategy[Command]:
    return st.one_of(
        _claims(),
        _claims(),
        st.builds(Confirm, reservation_id=_ids()),
        st.builds(Confirm, reservation_id=_ids()),
        st.builds(Release, reservation_id=_ids(), actor=_actors()),
        st.builds(Cancel, reservation_id=_ids(), by_staff=st.booleans(), actor=_actors()),
        st.builds(Find, reservation_id=_ids()),
        _quota_changes(),
        st.just(Sweep(items_max=500)),
        _retirements(),
    )


def histories() -> st.SearchStrategy[list[Batch | Lapse]]:
    """A history, cut into batches at random."""
    batches = st.lists(_commands(), min_size=3, max_size=20).map(lambda commands: Batch(tuple(commands)))
    return st.lists(st.one_of(batches, batches, _quotas().map(Lapse)), min_size=4, max_size=12)
