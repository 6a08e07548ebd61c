"""A cache of encoded answers, so that one encoding serves all callers with the same question.

An answer is rebuilt when the availability view has changed, or when the clock reaches a moment at which a quota opens
or closes. Between two builds passes at least `REST_RATIO` times the duration of a build, so that encoding uses a
bounded share of the front's time; moments of the clock are still kept exactly.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from reservasi import quota_state
from reservasi.availability import Availability
from reservasi.availability.alternatives import Offer
from reservasi.front.api.answers import Answer
from reservasi.front.views.quota_json import Encoded, quota_body
from reservasi.front.views.ticket_rules import TicketRule, TicketRules
from reservasi.model import Quota
from reservasi.quota_state import QuotaState

ANSWERS_MAX = 2048
BYTES_MAX = 64 * 1024 * 1024
FRAGMENTS_MAX = 200_000
REST_RATIO = 10  # at most about a tenth of the time is used to encode one answer
REST_S_MAX = 1.0  # the Cache-Control of availability allows it
NEVER_MS = 2**62
_BY_TIME = -1  # not a version of the view

Value = TypeVar("Value")


class Made(NamedTuple, Generic[Value]):
    """The result of a maker."""

    value: Value
    bytes_held: int
    turns_at_ms: int  # the ledger's clock at which the value becomes outdated; NEVER_MS if there is no such moment


class _Kept(NamedTuple):
    made: Made[Any]  # a key belongs to one maker, which knows the type
    version: int
    rests_until_s: float

    def serves(self, version: int) -> bool:
        """Whether nothing has changed since, or too little time has passed to build it again."""
        if self.version == version:
            return True
        value = self.made.value
        rest_s = min(value.compress_s * REST_RATIO, REST_S_MAX) if isinstance(value, Encoded) else 0.0
        return time.monotonic() < self.rests_until_s + rest_s


class _Fragment(NamedTuple):
    quota: Quota
    from_ms: int  # since when it has this state by the clock
    turns_at_ms: int  # until when
    stamp: int  # of the ticket rules
    rule: TicketRule
    json: bytes


class SoldOut:
    """A sold-out answer, what it was made of, and how long it may be reused without a look at that."""

    __slots__ = ("answer", "changes", "end", "quotas", "stamp", "turn_ms", "until_s")

    def __init__(
        self, answer: Answer, *, quotas: list[Quota], changes: int, end: bytes, stamp: int, turn_ms: int
    ) -> None:
        self.answer = answer
        self.quotas = quotas
        self.changes = changes  # of the offer's contents
        self.end = end
        self.stamp = stamp  # of the ticket rules
        self.turn_ms = turn_ms  # the ledger's time at which a quota opens or closes
        self.until_s = 0.0

    def is_made_of(self, availability: Availability, offer: Offer, end: bytes, stamp: int) -> bool:
        """Whether the answer would be the same again."""
        if self.end != end or self.stamp != stamp:
            return False
        if self.changes != offer.contents.changes:
            if self.quotas != availability.offered(offer):
                return False
            self.changes = offer.contents.changes  # others changed
        return True


class AnswerCache:
    """Answers by key, each as fresh as its cost allows; bounded in number and in bytes."""

    def __init__(
        self,
        availability: Availability,
        is_public: Callable[[Quota], bool] = lambda _quota: True,
        ticket_rules: TicketRules | None = None,
    ) -> None:
        self._availability = availability
        self._is_public = is_public  # quotas that only staff may claim are closed for everybody else
        self.ticket_rules = ticket_rules or TicketRules()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._bytes_held = 0
        self.sold_out: dict[tuple[str, Offer], SoldOut] = {}  # by language; used by `sold_out.py`
        self.sold_out_ends: dict[str, tuple[float, bytes]] = {}  # by program
        self._fragments: dict[str, _Fragment] = {}

    def answer(self, key: Hashable, make: Callable[[int], Made[Value]], rest_s: float = 0.0) -> Value:
        """The answer under `key`, built by `make(now_ms)` if there is no fresh one.

        With `rest_s` it lives exactly that long, whatever changes: for answers built from inputs that may themselves be
        slightly outdated, so that an unchanged version does not prove them current.
        """
        now_ms = self._availability.now_ms()
        version = self._availability.version
        kept = self._kept.get(key)
        if kept is not None and now_ms < kept.made.turns_at_ms and kept.serves(version):
            self._kept.move_to_end(key)
            return kept.made.value  # type: ignore[no-any-return]
        started_s = time.perf_counter()
        self.ticket_rules.refresh(now_ms)
        fresh = make(now_ms)
        if rest_s:
            version = _BY_TIME
        else:
            rest_s = min((time.perf_counter() - started_s) * REST_RATIO, REST_S_MAX)
        self._keep(key, _Kept(fresh, version, time.monotonic() + rest_s))
        return fresh.value

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        former = self._kept.pop(key, None)
        self._bytes_held += kept.made.bytes_held - (former.made.bytes_held if former else 0)
        self._kept[key] = kept
        while len(self._kept) > 1 and (len(self._kept) > ANSWERS_MAX or self._bytes_held > BYTES_MAX):
            _, dropped = self._kept.popitem(last=False)
            self._bytes_held -= dropped.made.bytes_held

    def public_state(self, quota: Quota, now_ms: int) -> QuotaState:
        """The state of a quota for claims of the public."""
        return quota_state.state_of(quota, now_ms) if self._is_public(quota) else "closed"

    def fragment(self, quota: Quota, now_ms: int) -> bytes:
        """A quota's public JSON, cached by object, which is immutable, while state and opening stay.

        The ticket rules must have been refreshed for the moment, as `answer` does.
        """
        stamp, kept = self.ticket_rules.stamp, self._fragments.get(quota.id)
        if kept is not None and kept.quota is quota and kept.from_ms <= now_ms < kept.turns_at_ms:
            if kept.stamp == stamp:
                return kept.json
            if kept.rule == self.ticket_rules.of(quota, now_ms):
                self._fragments[quota.id] = kept._replace(stamp=stamp)
                return kept.json
        if len(self._fragments) >= FRAGMENTS_MAX:
            self._fragments.clear()
        rule = self.ticket_rules.of(quota, now_ms)
        encoded = msgspec.json.encode(quota_body(quota, self.public_state(quota, now_ms), rule))
        from_ms = max(at_ms for at_ms in (0, quota.terms.opens_at_ms, quota.terms.closes_at_ms) if at_ms <= now_ms)
        turns_at_ms = next_turn_ms((quota,), now_ms)
        self._fragments[quota.id] = _Fragment(quota, from_ms, turns_at_ms, stamp, rule, encoded)
        return encoded


def next_turn_ms(quotas: Iterable[Quota], now_ms: int) -> int:
    """The next moment at which one of the quotas opens or closes by the clock; NEVER_MS if there is none."""
    turn_ms = NEVER_MS
    for quota in quotas:
        for at_ms in (quota.terms.opens_at_ms, quota.terms.closes_at_ms):
            if now_ms < at_ms < turn_ms:
                turn_ms = at_ms
    return turn_ms
