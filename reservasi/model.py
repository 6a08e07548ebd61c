"""The domain as types: outcomes, states, quotas, commands and events. Pure; imports nothing of ours.

Commands go to the ledger, events come out of it. Both are encoded as positional msgpack (`ledger.wire`), so that the
order of the fields below is the order on the wire. Times are milliseconds since the Unix epoch by the ledger's clock, 0
for "none"; ids and hashes are ASCII text.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

APPLICANTS_MAX = 5  # applicants in one reservation, the most that any program may allow
QUOTAS_MAX = 20_000  # quotas in a program's ledger without retired ones: a snapshot stays below 8 MB
CAPACITY_MAX = 100_000  # places in one quota
ACTOR_CHARS_MAX = 80  # of a change: "staff:<key name>", "cli:<os account>", "import", "worker"
REASON_CHARS_MAX = 200  # free text
IMPORT_ACTOR = "import"
SEQ_MAX = 2**53 - 1  # Lua numbers are doubles: larger integers lose precision


class Outcome(StrEnum):
    """The named result of a ledger command."""

    HELD = "held"  # claim: the places are held until the deadline
    CONFIRMED = "confirmed"  # confirm: the hold is permanent
    RELEASED = "released"  # release: the hold is ended
    CANCELLED = "cancelled"  # cancel: the confirmed reservation is ended
    QUOTA_SET = "quota_set"  # set_quota: created or changed
    RETIRED = "retired"  # retire, retire_opening: the quota or the opening has left the ledger
    RETIRING = "retiring"  # retire: places of the quota are still taken, or returning
    NOT_OVER = "not_over"  # retire, retire_opening: it can still be booked, its window lies ahead, or it has not ended
    SWEPT = "swept"  # sweep: number of expired, returned and dropped items
    FOUND = "found"  # find: the reservation in the ledger
    SNAPSHOT = "snapshot"  # snapshot: every quota at one seq
    OWNED = "owned"  # own: this run of the server may sell
    EXISTS = "exists"  # the same command was carried out before; same answer
    EXISTS_WITH_DIFFERENT_CONTENT = "exists_with_different_content"  # the key was used for another request
    UNKNOWN_QUOTA = "unknown_quota"  # no such quota in this program
    CLOSED = "closed"  # staff closed the quota, or its closing time has passed; or the opening has ended
    NOT_OPEN = "not_open"  # the opening lies ahead
    DUPLICATE_APPLICANT = "duplicate_applicant"  # a person already has a live reservation in the program
    SOLD_OUT = "sold_out"  # fewer places remain than were asked for
    NOT_FOUND = "not_found"  # no such reservation, or its tombstone was dropped
    HOLD_EXPIRED = "hold_expired"  # the deadline ended the hold
    NOT_HELD = "not_held"  # confirm, release: the reservation is in another state
    NOT_CONFIRMED = "not_confirmed"  # cancel: the reservation is in another state
    TOO_LATE = "too_late"  # cancel: the last moment has passed; set_opening, move_opening: it can no longer change
    BELOW_TAKEN = "below_taken"  # set_quota: capacity would fall below the places already taken
    WINDOW_REVERSED = "window_reversed"  # set_quota, set_opening: it would end before it opens
    VERSION_MISMATCH = "version_mismatch"  # set_quota: the quota was changed in the meantime
    OPENING_SET = "opening_set"  # set_opening: created or changed
    OPENING_CANCELLED = "opening_cancelled"  # the opening was cancelled, permanently
    MOMENT_INVALID = "moment_invalid"  # move_opening: it would open or end in the past, or end before it opens
    MOMENT_TAKEN = "moment_taken"  # move_opening: another opening, or quotas without one, open at that moment
    QUOTA_CLOSES = "quota_closes"  # move_opening: one of its quotas closes before the new moment
    TOO_MANY_QUOTAS = "too_many_quotas"  # move_opening: more quotas than one call may move
    OF_OPENING = "of_opening"  # set_quota, set_opening: the quota opens with its opening, and cannot be moved alone
    UNKNOWN_OPENING = "unknown_opening"  # no such opening in this program
    NO_WAITING_ROOM = "no_waiting_room"  # join, admit: the opening has no waiting room
    JOINED = "joined"  # join: counted among those who wait
    ADVANCED = "advanced"  # admit: the mark is current
    NOT_LEADING = "not_leading"  # admit: another controller leads
    MOVED = "moved"  # own, load: the ledger is not in the expected state, or another process changed it
    LOADED = "loaded"  # load: the rows are loaded
    TOUCHED = "touched"  # touch: something was written
    DAMAGED = "damaged"  # any command: stored data that it needs is damaged or contradictory
    FENCED = "fenced"  # the whole batch: wrong epoch, wrong run, or not owned


class State(StrEnum):
    """The state of a reservation in its life."""

    HELD = "held"  # places taken, deadline running
    CONFIRMED = "confirmed"  # permanent
    RELEASED = "released"  # the hold was released by the person or staff
    EXPIRED = "expired"  # the deadline ended the hold
    CANCELLED = "cancelled"  # ended after it was confirmed
    RETIRED = "retired"  # it was confirmed, and its date has passed

    @property
    def live(self) -> bool:
        """Whether it counts for "one live reservation per person"."""
        return self in (State.HELD, State.CONFIRMED)


class StaffRole(StrEnum):
    """A name for a set of scopes of a staff key."""

    ADMIN = "admin"  # everything
    OPERATOR = "operator"  # everything
    VIEWER = "viewer"  # read only


class StaffScope(StrEnum):
    """What a staff key may be used for."""

    READ = "read"  # read quotas with their counts, and the audit log
    QUOTAS = "quotas"  # change and close quotas
    OPENINGS = "openings"  # create, move and control openings
    RESERVATIONS = "reservations"  # end reservations


SCOPES_OF_ROLE: dict[str, frozenset[StaffScope]] = {
    StaffRole.ADMIN: frozenset(StaffScope),
    StaffRole.OPERATOR: frozenset(StaffScope),
    StaffRole.VIEWER: frozenset({StaffScope.READ}),
}


class QuotaTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of a quota, set by staff: everything that the ledger needs to decide a claim, and what the quota is
    for.
    """

    capacity: int  # places, 0..CAPACITY_MAX
    opens_at_ms: int  # the opening; 0: open from the start
    closes_at_ms: int  # claims end here; 0: never
    cancel_until_ms: int  # last moment for a cancellation by the applicant; 0: any time
    hold_ms: int  # how long a hold lasts
    return_min_ms: int  # a returned place becomes available after a random delay between these two
    return_max_ms: int
    closed: bool  # closed by staff
    office: str  # ids within the program
    service: str
    channel: str
    date: str  # ISO date of the slot, local to the office
    start: str  # "HH:MM", local to the office
    end: str  # "24:00" for midnight at the end of the day


STAFF_TERMS = ("capacity", "opens_at_ms", "closes_at_ms", "closed")  # terms that may be changed by others than imports
NOT_KNOWN = -1


class QuotaCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of the ledger; remaining = capacity - held - confirmed - returning."""

    held: int = 0
    confirmed: int = 0
    returning: int = 0  # returned, waiting for their random delay
    version: int = 1  # grows with every set_quota; the ETag of staff calls

    @property
    def taken(self) -> int:
        """Places that cannot be claimed now."""
        return self.held + self.confirmed + self.returning


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A quota at one moment: its terms and its counts."""

    id: str
    terms: QuotaTerms
    counts: QuotaCounts
    # STAFF_TERMS as last set by imports, NOT_KNOWN for one that an earlier version did not store; () while the quota
    # has its original terms, or was changed by an earlier version only.
    imported: tuple[int, ...] = ()

    @property
    def remaining(self) -> int:
        """Places that can be claimed now; never below 0 while the promises hold."""
        counts = self.counts  # the sum is not `taken`, whose call every claim would pay for
        return self.terms.capacity - counts.held - counts.confirmed - counts.returning


class OpeningTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of an opening, set by staff, and what its draw is bound to."""

    opens_at_ms: int  # it covers the quotas that open at this moment in its offices
    joins_from_ms: int  # people may join from here; not after `opens_at_ms`
    ends_at_ms: int  # end of waiting room and tickets; after `opens_at_ms`
    waiting_room: bool
    proof_of_work: bool  # joining requires a solved challenge
    rate_per_min: int  # numbers admitted per minute; if it adapts, the first rate
    rate_max_per_min: int  # if it adapts, the largest rate
    adaptive: bool
    commitment: str  # hex SHA-256 of the 32-byte seed
    sealed_seed: str  # the seed in hex, sealed under the opening's id
    offices: tuple[str, ...] = ()  # ids, sorted; empty: all offices of the program
    beacon_source: str = ""  # who publishes the beacon, which one, and when; set before anybody joins; "" none

    def covers(self, quota: QuotaTerms) -> bool:
        """Whether a quota with these terms opens with it; no two openings cover the same one."""
        return quota.opens_at_ms == self.opens_at_ms and (not self.offices or quota.office in self.offices)

    def overlaps(self, other: "OpeningTerms") -> bool:
        """Whether a quota might open with both, so that only one of them can exist."""
        is_shared = not self.offices or not other.offices or not set(self.offices).isdisjoint(other.offices)
        return self.opens_at_ms == other.opens_at_ms and is_shared


def join_offices(offices: tuple[str, ...]) -> str:
    """The offices of an opening as one text, as stored in ledger and records; ids have no comma."""
    return ",".join(offices)


def split_offices(stored: str) -> tuple[str, ...]:
    """The reverse of `join_offices`."""
    return tuple(stored.split(",")) if stored else ()


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """An opening at one moment: its terms, and the state of its waiting room."""

    id: str
    terms: OpeningTerms
    version: int = 1  # grows with every set_opening
    paused: bool = False
    beacon: str = ""  # a value from outside, entered once before it opens; "" none
    drawn: bool = False  # `joined` is final
    joined: int = 0  # people who joined before it opened
    arrived: int = 0  # all people who joined so far
    admitted_through: int = 0  # numbers up to this may claim, once it has opened
    rate_per_min: int = 0  # the rate in force
    rate_fixed: bool = False  # it was set by staff, and does not adapt
    advanced_at_ms: int = 0  # the moment up to which the mark has been computed
    cancelled: bool = False  # cancelled, permanently; its quotas were closed with it
    reason: str = ""  # public reason of the move or cancellation; "" if none was given
    reason_en: str = ""  # the same in English, if given
    moved_from_ms: int = 0  # the moment before the last move; 0: never moved
    revision: int = 0  # how often it was moved or cancelled, or its end moved
    revised_at_ms: int = 0  # time of the last such change
    paused_at_ms: int = 0  # since when it is paused; 0 if it is not

    def covers(self, quota: QuotaTerms) -> bool:
        """Whether a quota with these terms opens with it; a cancelled opening keeps only closed quotas."""
        return self.terms.covers(quota) and (quota.closed or not self.cancelled)

    def ended(self, now_ms: int) -> bool:
        """Whether its waiting room is over. A pause after the opening moves the end by its length."""
        return now_ms >= self.terms.ends_at_ms and not self.paused


# -- commands: one item of a batch -------------------------------------------------------------------------------


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A command that names its actor and reason; both are journaled and change no outcome.

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
    """Take one place for each person, atomically: all or none."""

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
    terms: QuotaTerms | None = None  # the whole terms: create the quota, or replace them if `version` matches
    capacity: int | None = None  # changes to an existing quota; None: unchanged
    opens_at_ms: int | None = None
    closes_at_ms: int | None = None
    closed: bool | None = None
    taker: str = ""  # the new opening with which it is to open; it may leave an opening that nobody can join
    version: int = 0  # 0: any version (with `terms`: create only); else the version to replace


class Retire(msgspec.Struct, frozen=True, kw_only=True):
    """Retire a quota whose window is over from the ledger."""

    quota: str
    ends_at_ms: int  # the end of its window, in the program's time zone
    reservations: tuple[str, ...] = ()  # confirmed ones, which end with it


class Find(msgspec.Struct, frozen=True, kw_only=True):
    """Look a reservation up."""

    reservation_id: str


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Expire holds, return places, drop old tombstones; at most `limit` of each."""

    items_max: int


class SetOpening(Named, frozen=True, kw_only=True):
    """Create an opening, or change it. Commitment and seed never change, whatever terms are given later."""

    opening: str
    terms: OpeningTerms | None = None  # the whole terms: create it, or replace them if `version` matches
    paused: bool | None = None  # changes to an existing opening; None: unchanged
    rate_per_min: int | None = None  # 0: as in the terms
    beacon: str | None = None
    # moments and offices of the quotas that it is to get: refused if people joined their opening
    takes: tuple[tuple[int, str], ...] = ()
    version: int = 0  # 0: any version (with `terms`: create only); else the version to replace


class MoveOpening(Named, frozen=True, kw_only=True):
    """Move an opening and its quotas, move its end, or cancel it and close its quotas. The reason is public."""

    opening: str
    opens_at_ms: int | None = None  # None: unchanged
    ends_at_ms: int | None = None  # None: at the same distance from the opening
    cancelled: bool | None = None  # True cancels it, permanently
    reason_en: str = ""  # the reason in English, if given
    version: int = 0  # 0: any; else the version to replace


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """Count a person as waiting for an opening; repeating it changes nothing."""

    opening: str
    ticket_id: str  # keyed hash of opening and person


class RetireOpening(msgspec.Struct, frozen=True, kw_only=True):
    """Retire an opening that has ended from the ledger."""

    opening: str


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """Move an opening's mark to the number that rate and time give, as its one leading controller."""

    opening: str
    controller: str  # another one may lead if this one has not called for `lease_ms`
    lease_ms: int
    rate_per_min: int = 0  # from now on, if the rate adapts; 0: unchanged


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
    """One item of a batch's reply. The outcome determines which fields are set."""

    outcome: Outcome
    epoch: int  # the ledger's epoch; (epoch, seq) orders everything in a program
    seq: int  # of the change that this answer is about; for a refusal the program's seq at that time
    now_ms: int  # the ledger's clock at the batch
    state: State | None = None  # of the reservation, if there is one
    quota: str = ""  # of the reservation; moment_taken, quota_closes: the quota that prevents it
    places: int = 0
    deadline_ms: int = 0  # the hold's end, also after it was confirmed
    freed_at_ms: int = 0  # held, exists, released, cancelled: when places in the quota were freed, 0: long ago
    opens_at_ms: int = 0  # not_open; to a join: when people may join
    remaining: int = 0  # sold_out: remaining places, fewer than requested
    applicant: int = 0  # duplicate_applicant: index of the person, from 1
    taken: int = 0  # below_taken, retiring
    version: int = 0  # quota_set, opening_set, exists, version_mismatch, and other refusals of what staff change
    opening: str = ""  # of_opening, moment_taken: the opening that prevents it
    expired: int = 0  # swept
    returned: int = 0  # swept
    dropped: int = 0  # swept
    ended: int = 0  # retired, retiring: confirmed reservations that ended
    number: int = -1  # joined after the opening: the number in the queue; before it, the draw gives one
    joined: int = 0  # joined, advanced: from the opening's record
    arrived: int = 0
    admitted_through: int = 0
    rate_per_min: int = 0
    retried: bool = False  # the batch was sent more than once, so that `exists` may be our own first attempt


class Position(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A place in a program's journal: everything up to `seq` of `epoch`."""

    epoch: int
    seq: int
    chain: str = ""  # hash over everything up to here; "" before the first entry
