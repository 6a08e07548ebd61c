"""The policy of a claim: what is refused, in which order, and what the ledger decides.

A request is well formed and its quota known before it comes here. Then: the caller's network, the waiting-room ticket,
sold out from memory (never for a replay), the rate of its persons, overload. What is not refused is a command for the
ledger. Definite refusals come before overload.
"""

from typing import TypeAlias

from reservasi.front.api.problem_catalogue import CLOSED, OVERLOADED, RECOVERING, SOLD_OUT, UNKNOWN_QUOTA
from reservasi.front.api.problems import Refused
from reservasi.front.deciding.claim_tickets import check_ticket, may_be_outdated
from reservasi.front.deciding.front_context import Front
from reservasi.front.deciding.rate_limits import too_often
from reservasi.front.deciding.wanted_claim import Wanted
from reservasi.front.services import FrontServices
from reservasi.model import Claim, Quota


class Doubtful:
    """A refusal that must be checked first: the view may lag, or the claim may be a replay."""

    __slots__ = ("may_be_outdated", "may_be_replay", "refused")

    def __init__(self, refused: Refused, *, may_be_outdated: bool, may_be_replay: bool) -> None:
        self.refused = refused
        self.may_be_outdated = may_be_outdated
        self.may_be_replay = may_be_replay


Decision: TypeAlias = Refused | Doubtful | Claim
# The most frequent decisions, made once; they are returned, never raised.
_SOLD_OUT, _OVERLOADED = Refused(SOLD_OUT), Refused(OVERLOADED)


def claimable_quota(services: FrontServices, program: str, quota_id: str) -> Quota | None:
    """The quota in the view; None if the view must catch up before it can be called unknown.

    Raises:
        Refused: the public cannot claim from the quota.
    """
    availability, catalogue = services.availability, services.catalogue
    if catalogue.program(program) is None:
        raise Refused(UNKNOWN_QUOTA if catalogue.loaded else RECOVERING)
    if not services.reservations.serves(program):
        raise Refused(UNKNOWN_QUOTA)
    if not availability.knows(program):
        raise Refused(RECOVERING)
    quota = availability.quota(quota_id)
    if quota is None:
        if availability.is_damaged(quota_id):
            raise Refused(RECOVERING)
        return None
    if not catalogue.is_public(quota):
        raise Refused(CLOSED)
    return quota


def decide_claim(front: Front, wanted: Wanted, *, is_settled: bool = False) -> Decision:
    """Decide a claim whose caller's network has been counted.

    With `is_settled` the view contains everything that the caller may have learnt from another front.
    """
    services = front.services
    refused = check_ticket(services, front.cache, wanted)
    if refused is None:
        return _decide_admitted(front, wanted)
    may_be_replay = services.availability.has_reservation(wanted.reservation_id, wanted.program)
    outdated = not is_settled and may_be_outdated(services, refused, wanted.program)
    if may_be_replay or outdated:
        return Doubtful(refused, may_be_outdated=outdated, may_be_replay=may_be_replay)
    return refused


def decide_replay(front: Front, wanted: Wanted) -> Decision:
    """Decide a claim whose id the ledger has: it gets its first answer, and takes no place."""
    return _decide_admitted(front, wanted)


def _decide_admitted(front: Front, wanted: Wanted) -> Decision:
    reservations = front.services.reservations
    if front.services.availability.is_sold_out(wanted.quota.id, len(wanted.persons), wanted.reservation_id):
        return _SOLD_OUT
    wait_s = front.rates.people(wanted.persons)
    if wait_s:
        return too_often("person", wait_s)
    if not reservations.admits_claims(wanted.program):
        return _OVERLOADED
    return reservations.prepare(wanted.claim, wanted.persons, wanted.reservation_id)
