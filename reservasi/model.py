"""The words of the domain as types: outcomes, states, quotas, commands and events. Pure; imports nothing of ours.

Commands go to the ledger, events come out of it. Both travel as positional msgpack (`ledger.wire`), so the order of
the fields below is the order on the wire. Times are milliseconds since the Unix epoch by the ledger's clock, 0 for
"none"; ids and hashes are ASCII text.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

APPLICANTS_MAX = 5  # applicants in one reservation, the most any program may allow (DOMAIN: sources disagree, up to 5)
QUOTAS_MAX = 20_000  # quotas in a program's ledger, retired ones not among them: a snapshot stays below 8 MB
CAPACITY_MAX = 100_000  # places in one quota
ACTOR_CHARS_MAX = 80  # whoever changed something: "staff:<key name>", "cli:<os account>", "import", "worker"
REASON_CHARS_MAX = 200  # why, in their own words
IMPORT_ACTOR = "import"
SEQ_MAX = 2**53 - 1  # Lua numbers are doubles: beyond this they lose exactness


class Outcome(StrEnum):
    """The named result of a ledger command."""

    HELD = "held"  # claim: the places are held until the deadline
    CONFIRMED = "confirmed"  # confirm: the hold is permanent
    RELEASED = "released"  # release: the hold is given up
    CANCELLED = "cancelled"  # cancel: the confirmed reservation is ended
    QUOTA_SET = "quota_set"  # set_quota: created or changed
    RETIRED = "retired"  # retire, retire_opening: the quota or the opening is gone
    RETIRING = "retiring"  # retire: places of the quota are still somebody's, or on their way back
    NOT_OVER = "not_over"  # retire, retire_opening: it can still be booked, its window lies ahead, or it goes on
    SWEPT = "swept"  # sweep: how much was expired, returned and dropped
    FOUND = "found"  # find: the reservation as the ledger knows it
    SNAPSHOT = "snapshot"  # snapshot: every quota at one seq
    OWNED = "owned"  # own: this run of the server may sell again
    EXISTS = "exists"  # the same command was carried out before; the answer is the same
    EXISTS_WITH_DIFFERENT_CONTENT = "exists_with_different_content"  # the key was used for something else
    UNKNOWN_QUOTA = "unknown_quota"  # no such quota in this program
    CLOSED = "closed"  # the quota is closed by staff, or its closing time has passed; the opening has ended
    NOT_OPEN = "not_open"  # the opening lies ahead
    DUPLICATE_APPLICANT = "duplicate_applicant"  # a person already has a live reservation in the program
    SOLD_OUT = "sold_out"  # fewer places remain than were asked for
    NOT_FOUND = "not_found"  # no such reservation, or forgotten after its tombstone's time
    HOLD_EXPIRED = "hold_expired"  # the deadline ended the hold
    NOT_HELD = "not_held"  # confirm, release: the reservation is in another state
    NOT_CONFIRMED = "not_confirmed"  # cancel: the reservation is in another state
    TOO_LATE = "too_late"  # cancel: the last moment has passed; set_opening, move_opening: what it changes is fixed
    BELOW_TAKEN = "below_taken"  # set_quota: capacity would fall below the places already taken
    WINDOW_REVERSED = "window_reversed"  # set_quota, set_opening: it would end before it opens
    VERSION_MISMATCH = "version_mismatch"  # set_quota: somebody changed the quota in the meantime
    OPENING_SET = "opening_set"  # set_opening: created or changed
    OPENING_CANCELLED = "opening_cancelled"  # the opening was called off, for good
    MOMENT_INVALID = "moment_invalid"  # move_opening: it would open or end in the past, or end before it opens
    MOMENT_TAKEN = "moment_taken"  # move_opening: another opening, or quotas without one, open then
    QUOTA_CLOSES = "quota_closes"  # move_opening: one of its quotas closes before the new moment
    TOO_MANY_QUOTAS = "too_many_quotas"  # move_opening: more than one call may move
    OF_OPENING = "of_opening"  # set_quota, set_opening: the quota opens with its opening, which keeps it
    UNKNOWN_OPENING = "unknown_opening"  # no such opening in this program
    NO_WAITING_ROOM = "no_waiting_room"  # join, admit: the opening is to be claimed without waiting
    JOINED = "joined"  # join: counted among those who wait
    ADVANCED = "advanced"  # admit: the mark stands where the time says
    NOT_LEADING = "not_leading"  # admit: another controller leads
    MOVED = "moved"  # own, load: the ledger is not where the caller saw it, or another one is at it
    LOADED = "loaded"  # load: the rows are there
    TOUCHED = "touched"  # touch: something was written
    DAMAGED = "damaged"  # any command: something stored that it needs cannot be read, or contradicts the rest
    FENCED = "fenced"  # the whole batch: wrong epoch, wrong run, or not owned


class State(StrEnum):
    """Where a reservation is in its life."""

    HELD = "held"  # places taken, deadline running
    CONFIRMED = "confirmed"  # permanent
    RELEASED = "released"  # the hold was given up
    EXPIRED = "expired"  # the deadline ended the hold
    CANCELLED = "cancelled"  # ended after it was confirmed
    RETIRED = "retired"  # it was confirmed, and its date has passed

    @property
    def live(self) -> bool:
        """Whether it counts for "one live reservation per person"."""
        return self in (State.HELD, State.CONFIRMED)


class StaffRole(StrEnum):
    """A name for a set of scopes: what a member of staff may do."""

    ADMIN = "admin"  # everything
    OPERATOR = "operator"  # everything
    VIEWER = "viewer"  # look


class StaffScope(StrEnum):
    """What a staff key may be used for."""

    READ = "read"  # quotas with their counts, and who changed what
    QUOTAS = "quotas"  # change and close quotas
    OPENINGS = "openings"  # create, move and lead openings
    RESERVATIONS = "reservations"  # end somebody's reservation


SCOPES_OF_ROLE: dict[str, frozenset[StaffScope]] = {
    StaffRole.ADMIN: frozenset(StaffScope),
    StaffRole.OPERATOR: frozenset(StaffScope),
    StaffRole.VIEWER: frozenset({StaffScope.READ}),
}


class QuotaTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What staff decide about a quota; everything the ledger needs to judge a claim, and what it is for."""

    capacity: int  # places, 0..CAPACITY_MAX
    opens_at_ms: int  # the opening; 0 = open from the start
    closes_at_ms: int  # claims end here; 0 = never
    cancel_until_ms: int  # last moment for a cancellation by the applicant; 0 = any time
    hold_ms: int  # how long a hold lasts
    return_min_ms: int  # a place given back returns after a random delay between these two
    return_max_ms: int
    closed: bool  # closed by staff
    office: str  # ids within the program
    service: str
    channel: str
    date: str  # ISO date of the slot, local to the office
    start: str  # "HH:MM", local to the office
    end: str  # "24:00" where it is the midnight that ends the day


STAFF_TERMS = ("capacity", "opens_at_ms", "closes_at_ms", "closed")  # which others than imports may change
NOT_KNOWN = -1


class QuotaCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts the ledger keeps; remaining = capacity - held - confirmed - returning."""

    held: int = 0
    confirmed: int = 0
    returning: int = 0  # given back, waiting for their random return
    version: int = 1  # grows with every set_quota; the ETag of staff calls

    @property
    def taken(self) -> int:
        """Places that nobody can claim now."""
        return self.held + self.confirmed + self.returning


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A quota at one moment: its terms and its counts."""

    id: str
    terms: QuotaTerms
    counts: QuotaCounts
    # STAFF_TERMS as imports set them last, NOT_KNOWN for one that an earlier version did not remember; () while the
    # quota has the terms that it was created with, or was changed by an earlier version only
    imported: tuple[int, ...] = ()

    @property
    def remaining(self) -> int:
        """Places that can be claimed now; never below 0 while the promises hold."""
        return self.terms.capacity - self.counts.taken


class OpeningTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What staff decide about an opening, and what its draw is bound to."""

    opens_at_ms: int  # it covers the quotas that open at this moment in its offices
    joins_from_ms: int  # people may join from here; not after `opens_at_ms`
    ends_at_ms: int  # waiting room and tickets end here; after `opens_at_ms`
    waiting_room: bool
    proof_of_work: bool  # joining wants a solved challenge
    rate_per_min: int  # numbers admitted a minute; where it adapts, the first rate
    rate_max_per_min: int  # where it adapts, the most
    adaptive: bool
    commitment: str  # hex SHA-256 of the 32-byte seed
    sealed_seed: str  # the seed in hex, sealed under the opening's id
    offices: tuple[str, ...] = ()  # ids, sorted; none: all offices of the program
    beacon_source: str = ""  # who publishes the beacon, which one, and when; named before anybody joins; "" none was

    def covers(self, quota: QuotaTerms) -> bool:
        """Whether a quota with these terms opens with it; no two openings cover the same one."""
        return quota.opens_at_ms == self.opens_at_ms and (not self.offices or quota.office in self.offices)

    def overlaps(self, other: "OpeningTerms") -> bool:
        """Whether a quota may open with both: only one of them can be."""
        is_shared = not self.offices or not other.offices or not set(self.offices).isdisjoint(other.offices)
        return self.opens_at_ms == other.opens_at_ms and is_shared


def join_offices(offices: tuple[str, ...]) -> str:
    """The offices of an opening as the one text that ledger and records keep; no id has a comma."""
    return ",".join(offices)


def split_offices(stored: str) -> tuple[str, ...]:
    """The reverse of `join_offices`."""
    return tuple(stored.split(",")) if stored else ()


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """An opening at one moment: its terms, and how far its waiting room is."""

    id: str
    terms: OpeningTerms
    version: int = 1  # grows with every set_opening
    paused: bool = False
    beacon: str = ""  # a value from outside, entered once before it opens; "" none
    drawn: bool = False  # `joined` is final
    joined: int = 0  # people who joined before it opened
    arrived: int = 0  # all who joined so far
    admitted_through: int = 0  # numbers up to this may claim, once it has opened
    rate_per_min: int = 0  # the rate in force
    rate_fixed: bool = False  # it was set by staff, and does not adapt
    advanced_at_ms: int = 0  # up to when the mark has been reckoned
    cancelled: bool = False  # called off, for good; its quotas were closed with it
    reason: str = ""  # why it was moved or called off, for the public; "" where nobody said
    reason_en: str = ""  # the same in English, where it was given
    moved_from_ms: int = 0  # the moment before the last move; 0: never moved
    revision: int = 0  # how often it was moved or called off, or its end moved
    revised_at_ms: int = 0  # when that was last
    paused_at_ms: int = 0  # since when it is paused; 0 when it is not

    def ended(self, now_ms: int) -> bool:
        """Whether its waiting room is over. A pause moves the end by the time that it lasts after the opening."""
        return now_ms >= self.terms.ends_at_ms and not self.paused


# -- commands: one item of a batch -------------------------------------------------------------------------------


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A command that names who gave it and why; both are journaled and change no outcome.

    Raises:
        ValueError: `actor` or `reason` is too long, or has characters that cannot be printed.
    """

    actor: str = ""  # "" is the public, or the service itself
    reason: str = ""

    def __post_init__(self) -> None:
        if self.actor or self.reason:
            _check_words("actor", self.actor, ACTOR_CHARS_MAX)
            _check_words("reason", self.reason, REASON_CHARS_MAX)


def _check_words(what: str, words: str, chars_max: int) -> None:
    if len(words) > chars_max or not words.isprintable():
        raise ValueError(f"{what} must have at most {chars_max} printable characters")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Atomically try to take one place for each person: all or nothing."""

    reservation_id: str  # derived from program, person and Idempotency-Key
    quota: str
    fingerprint: str  # keyed hash of the whole request; another one under the same id is a reused key
    sealed: str  # names, numbers and contacts, encrypted; the ledger only passes it to the journal
    persons: tuple[str, ...]  # keyed hashes, 1..APPLICANTS_MAX, distinct


class Confirm(msgspec.Struct, frozen=True, kw_only=True):
    """Make a hold permanent."""

    reservation_id: str
    payment_reference: str = ""


class Release(Named, frozen=True, kw_only=True):
    """Give a hold up."""

    reservation_id: str


class Cancel(Named, frozen=True, kw_only=True):
    """End a confirmed reservation."""

    reservation_id: str
    by_staff: bool = False  # staff are not bound by `cancel_until_ms`


class SetQuota(Named, frozen=True, kw_only=True):
    """Create a quota, or change some of its terms."""

    quota: str
    terms: QuotaTerms | None = None  # the whole terms: create the quota, or replace them when `version` says so
    capacity: int | None = None  # changes to an existing quota; None keeps what is there
    opens_at_ms: int | None = None
    closes_at_ms: int | None = None
    closed: bool | None = None
    taker: str = ""  # the new opening that it is to open with; it may leave another one for it, if nobody can join that
    version: int = 0  # 0: any version (with `terms`: create only); else the version that is replaced


class Retire(msgspec.Struct, frozen=True, kw_only=True):
    """Take a quota whose window is over out of the ledger."""

    quota: str
    ends_at_ms: int  # the end of its window, in the program's time zone
    reservations: tuple[str, ...] = ()  # confirmed ones, which end with it


class Find(msgspec.Struct, frozen=True, kw_only=True):
    """Look a reservation up."""

    reservation_id: str


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Expire holds, return places, drop old tombstones; at most so many of each."""

    items_max: int


class SetOpening(Named, frozen=True, kw_only=True):
    """Create an opening, or change it. The first commitment and seed stay, whatever terms are given later."""

    opening: str
    terms: OpeningTerms | None = None  # the whole terms: create it, or replace them when `version` says so
    paused: bool | None = None  # changes to an existing opening; None keeps what is there
    rate_per_min: int | None = None  # 0: as the terms say again
    beacon: str | None = None
    takes: tuple[tuple[int, str], ...] = ()  # moments and offices of the quotas that it is to get: refused if joined
    version: int = 0  # 0: any version (with `terms`: create only); else the version that is replaced


class MoveOpening(Named, frozen=True, kw_only=True):
    """Move an opening and its quotas, move its end, or call it off and close its quotas. The reason is public."""

    opening: str
    opens_at_ms: int | None = None  # None keeps what is there
    ends_at_ms: int | None = None  # None: as far behind the opening as before
    cancelled: bool | None = None  # True calls it off, for good
    reason_en: str = ""  # the reason in English, where it was given
    version: int = 0  # 0: any; else the version that is replaced


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """Count a person among those who wait for an opening; again changes nothing."""

    opening: str
    ticket_id: str  # keyed hash of opening and person


class RetireOpening(msgspec.Struct, frozen=True, kw_only=True):
    """Take an opening that has ended out of the ledger."""

    opening: str


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """Move an opening's mark to where rate and time say, as its one leading controller."""

    opening: str
    controller: str  # another one may lead when this one has not called for `lease_ms`
    lease_ms: int
    rate_per_min: int = 0  # from now on, where the rate adapts; 0 keeps it


Command: TypeAlias = (
    Claim
    | Confirm
    | Release
    | Cancel
    | SetQuota
    | Retire
    | Find
    | Sweep
    | SetOpening
    | MoveOpening
    | RetireOpening
    | Join
    | Admit
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a batch's reply. Which fields are set depends on the outcome."""

    outcome: Outcome
    epoch: int  # the ledger's lineage; (epoch, seq) orders everything in a program
    seq: int  # of the change this answer speaks of; for a refusal the program's seq when it was refused
    now_ms: int  # the ledger's clock at the batch
    state: State | None = None  # of the reservation, where there is one
    quota: str = ""  # of the reservation; moment_taken, quota_closes: the quota that is in the way
    places: int = 0
    deadline_ms: int = 0  # the hold's end, also after it was confirmed
    freed_at_ms: int = 0  # held, exists, released, cancelled: when places came free in the quota, 0: long ago
    opens_at_ms: int = 0  # not_open; to a join: when people may join
    remaining: int = 0  # sold_out: places that do remain, fewer than asked for
    applicant: int = 0  # duplicate_applicant: which of the persons it is, from 1
    taken: int = 0  # below_taken, retiring
    version: int = 0  # quota_set, opening_set, exists, version_mismatch, and other refusals of what staff change
    opening: str = ""  # of_opening, moment_taken: the opening that is in the way
    expired: int = 0  # swept
    returned: int = 0  # swept
    dropped: int = 0  # swept
    ended: int = 0  # retired, retiring: confirmed reservations that ended
    number: int = -1  # joined after the opening: the place in the queue; before it the draw gives one
    joined: int = 0  # joined, advanced: as the opening's record says
    arrived: int = 0
    admitted_through: int = 0
    rate_per_min: int = 0
    retried: bool = False  # the batch was sent more than once, so `exists` may be our own first try


class Position(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A place in a program's journal: all up to `seq` of `epoch`."""

    epoch: int
    seq: int
    chain: str = ""  # hash over everything up to here; "" before the first entry
