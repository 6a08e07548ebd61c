"""A new opening: its id, its window, and a seed that nobody has seen."""

import datetime as dt
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from zoneinfo import ZoneInfo

import msgspec

from reservasi.errors import ConfigurationError
from reservasi.model import Opening, OpeningTerms, Quota
from reservasi.programs import WaitingRoom
from reservasi.sealing import Sealing
from reservasi.waiting_room import draw

MINUTE_MS = 60_000
_ID = re.compile(r"[a-z0-9-]{2,64}")


def opening_id(program: str, opens_at_ms: int, zone: ZoneInfo) -> str:
    """The id of an opening to which nobody gave one, such as `surabaya-20261204-1400`, in the program's own time."""
    return f"{program}-{dt.datetime.fromtimestamp(opens_at_ms / 1000, zone):%Y%m%d-%H%M}"


def free_id(
    program: str,
    opens_at_ms: int,
    zone: ZoneInfo,
    offices: Sequence[str],
    openings: Iterable[Opening],
    *,
    elsewhere: Collection[str] = (),
) -> str:
    """The same; with `-2`, `-3` behind it where an opening of other offices or of another second of it has that id.

    The opening that is asked for has this id as well, when it was created before. `elsewhere` are ids of openings of
    other programs: an id names one opening of all.
    """
    known = {opening.id: opening for opening in openings}
    first = opening_id(program, opens_at_ms, zone)
    for name in itertools.chain([first], (f"{first}-{number}" for number in range(2, len(known) + len(elsewhere) + 2))):
        if name in elsewhere:
            continue
        found = known.get(name)
        if found is None:
            return name
        if (found.terms.opens_at_ms, found.terms.offices) == (opens_at_ms, tuple(offices)) and not found.cancelled:
            return name
    raise AssertionError("more names than openings")


def places_left(quotas: Iterable[Quota], opens_at_ms: int) -> tuple[tuple[int, str], ...]:
    """The moments and offices that quotas leave when they are moved to a moment; of those that have one."""
    left = {(quota.terms.opens_at_ms, quota.terms.office) for quota in quotas if quota.terms.opens_at_ms}
    return tuple(sorted((at_ms, office) for at_ms, office in left if at_ms != opens_at_ms))


def namesakes(program: str, others: Iterable[str]) -> list[str]:
    """The programs whose openings may have an id that one of this program's may have: `a` and `a-b`, for `a-b-1`."""
    return [other for other in others if other.startswith(f"{program}-") or program.startswith(f"{other}-")]


def checked_id(program: str, opening: str, elsewhere: Collection[str] = ()) -> str:
    """The id, when it may be one.

    Raises:
        ConfigurationError: it has other characters, does not begin with the program's id, or is among those
            `elsewhere`: the id of another program's opening.
    """
    if not _ID.fullmatch(opening) or not opening.startswith(f"{program}-"):
        raise ConfigurationError(
            f"{opening!r} cannot be an opening's id: 2 to 64 of a-z, 0-9 and -, beginning with {program}-"
        )
    if opening in elsewhere:
        raise ConfigurationError(f"{opening} is an opening of another program: give this one another --id")
    return opening


def new_terms(
    sealing: Sealing,
    opening: str,
    opens_at_ms: int,
    room: WaitingRoom | None,
    *,
    joins_from_ms: int | None = None,
    ends_at_ms: int | None = None,
    offices: Iterable[str] = (),
    beacon_source: str = "",
) -> OpeningTerms:
    """Terms with a fresh seed, committed to and sealed; `room` is None for an opening without a waiting room.

    The window is the one that the room says, unless its ends are given. No offices means all of them.
    """
    policy = room or WaitingRoom()
    seed = draw.new_seed()
    return OpeningTerms(
        opens_at_ms=opens_at_ms,
        joins_from_ms=opens_at_ms - policy.joins_before_min * MINUTE_MS if joins_from_ms is None else joins_from_ms,
        ends_at_ms=opens_at_ms + policy.lasts_min * MINUTE_MS if ends_at_ms is None else ends_at_ms,
        waiting_room=room is not None,
        proof_of_work=policy.proof_of_work,
        rate_per_min=policy.rate_per_min,
        rate_max_per_min=max(policy.rate_max_per_min, policy.rate_per_min),
        adaptive=policy.adaptive,
        commitment=draw.commitment(seed),
        sealed_seed=sealing.seal(opening, seed.hex().encode()),
        offices=tuple(sorted(set(offices))),
        beacon_source=beacon_source,
    )


def until_last_closing(terms: OpeningTerms, quotas: Iterable[Quota]) -> OpeningTerms:
    """The same, but ended when the last of its quotas closes for booking: nobody waits for what cannot be booked."""
    closings = [quota.terms.closes_at_ms for quota in quotas]
    if not closings or not all(closings) or not terms.opens_at_ms < max(closings) < terms.ends_at_ms:
        return terms
    return msgspec.structs.replace(terms, ends_at_ms=max(closings))
