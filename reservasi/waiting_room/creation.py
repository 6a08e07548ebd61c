"""Creates an opening: its id, its window, and a new seed."""

import datetime as dt
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from zoneinfo import ZoneInfo

import msgspec

from reservasi.errors import ConfigurationError
from reservasi.model import MoveOpening, Opening, OpeningTerms, Quota
from reservasi.programs import WaitingRoom
from reservasi.sealing import Sealing
from reservasi.waiting_room import draw
from reservasi.waiting_room.state import Places

MINUTE_MS = 60_000
_ID = re.compile(r"[a-z0-9-]{2,64}")


def opening_id(program: str, opens_at_ms: int, zone: ZoneInfo) -> str:
    """The default id of an opening, such as `surabaya-20261204-1400`, in the program's time zone."""
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
    """The default id, with suffix `-2`, `-3` if an opening of other offices or of another second has that id.

    An opening that was created before with the same moment and offices keeps its id. `elsewhere` are ids of openings of
    other programs: opening ids are unique over all programs.
    """
    by_id = {opening.id: opening for opening in openings}
    first = opening_id(program, opens_at_ms, zone)
    for name in itertools.chain([first], (f"{first}-{number}" for number in range(2, len(by_id) + len(elsewhere) + 2))):
        if name in elsewhere:
            continue
        taken_by = by_id.get(name)
        if taken_by is None:
            return name
        if (taken_by.terms.opens_at_ms, taken_by.terms.offices) == (
            opens_at_ms,
            tuple(offices),
        ) and not taken_by.cancelled:
            return name
    raise AssertionError("more names than openings")


def places_left(quotas: Iterable[Quota], opens_at_ms: int) -> tuple[tuple[int, str], ...]:
    """The (moment, office) pairs that quotas leave when they move to a moment; of quotas that have a moment."""
    left = {(quota.terms.opens_at_ms, quota.terms.office) for quota in quotas if quota.terms.opens_at_ms}
    return tuple(sorted((at_ms, office) for at_ms, office in left if at_ms != opens_at_ms))


def namesakes(program: str, others: Iterable[str]) -> list[str]:
    """The programs whose opening ids may equal one of this program: `a` and `a-b`, for `a-b-1`."""
    return [other for other in others if other.startswith(f"{program}-") or program.startswith(f"{other}-")]


def checked_id(program: str, opening: str, elsewhere: Collection[str] = ()) -> str:
    """The id, if it is allowed.

    Raises:
        ConfigurationError: it has other characters, does not begin with the program's id, or is in `elsewhere`: the
            id of another program's opening.
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
    """Terms with a new seed, committed to and sealed; `room` is None for an opening without a waiting room.

    The window follows from the room, unless its ends are given. No offices means all of them.
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
    """The terms, ending at the latest when the last of its quotas closes, since nothing can be booked after that."""
    closings = [quota.terms.closes_at_ms for quota in quotas]
    if not closings or not all(closings) or not terms.opens_at_ms < max(closings) < terms.ends_at_ms:
        return terms
    return msgspec.structs.replace(terms, ends_at_ms=max(closings))


def move_until_last_closing(command: MoveOpening, opening: Opening, places: Places) -> MoveOpening:
    """The command, with an end that is not after the last closing of the opening's quotas, as at its creation."""
    opens_at_ms = opening.terms.opens_at_ms if command.opens_at_ms is None else command.opens_at_ms
    if command.ends_at_ms is None or not opens_at_ms < places.end_ms < command.ends_at_ms:
        return command
    return msgspec.structs.replace(command, ends_at_ms=places.end_ms)
