"""People of a trial: they claim, confirm and cancel without HTTP; their history is as over HTTP."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loadtest.checker.history import Exchange
from loadtest.stage.people import person
from reservasi.errors import ReservasiError
from reservasi.model import Answer, Outcome
from reservasi.reservations import ACCEPTED, Applicant, Change, ClaimRequest, Contact, Reservations

# What HTTP would say.
STATUSES = {
    Outcome.HELD: 201,
    Outcome.HOLD_EXPIRED: 410,
    Outcome.NOT_FOUND: 404,
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: 422,
}
KINDS = {Outcome.EXISTS_WITH_DIFFERENT_CONTENT: "idempotency-key-reused"}  # other refusals are named as their outcome


class Callers:
    """Everybody who asks, known by their numbers, and the history of their answers."""

    def __init__(self, reservations: Reservations, seed: int) -> None:
        self.history: list[Exchange] = []
        self._reservations = reservations
        self._seed = seed

    async def claim(self, number: int, quota: str, key: str, companions: Sequence[int] = ()) -> str:
        """Claim for one or more people; the reservation id when they have places."""
        group = [person(each, self._seed) for each in (number, *companions)]
        request = ClaimRequest(
            quota=quota,
            applicants=tuple(Applicant(nik=one.nik, name=one.name, birth_date=one.birth_date) for one in group),
            contact=Contact(email=group[0].email),
            idempotency_key=key,
        )
        sent_ms = time.time() * 1000
        members: dict[str, Any] = {"key": key, "quota": quota, "places": len(group)}
        try:
            id_, answer = await self._reservations.claim(request)
        except ReservasiError:
            self._tell("claim", number, sent_ms, 503, **members)
            return ""
        if answer.outcome not in (Outcome.HELD, Outcome.EXISTS):
            self._tell_answer("claim", number, sent_ms, answer, **members)
            return ""
        body = {
            "id": id_,
            "status": str(answer.state),
            "quota": answer.quota,
            "places": answer.places,
            "hold_expires_at": answer.deadline_ms,
            "manage_token": self._reservations.manage_token(id_),
        }
        self._tell_answer("claim", number, sent_ms, answer, 201, body=body, **members)
        return id_

    async def confirm(self, number: int, ids: dict[int, str]) -> int:
        return await self._change("confirm", number, ids, lambda id_: self._reservations.confirm(id_, ""))

    async def cancel(self, number: int, ids: dict[int, str]) -> int:
        return await self._change("cancel", number, ids, self._reservations.cancel)

    async def _change(
        self, call: str, number: int, ids: dict[int, str], change_it: Callable[[str], Awaitable[Change]]
    ) -> int:
        """The status; 0 for a person without a reservation."""
        id_, sent_ms = ids.get(number, ""), time.time() * 1000
        if not id_:
            return 0
        try:
            change = await change_it(id_)
        except ReservasiError:
            return self._tell(call, number, sent_ms, 503, reservation_id=id_)
        if change.answer.outcome not in ACCEPTED:
            return self._tell_answer(call, number, sent_ms, change.answer, reservation_id=id_)
        body = {"id": id_} | ({"booking_code": self._reservations.booking_code(id_)} if change.recorded else {})
        status = 200 if change.recorded else 202
        return self._tell_answer(call, number, sent_ms, change.answer, status, body=body, reservation_id=id_)

    def _tell_answer(
        self, call: str, number: int, sent_ms: float, answer: Answer, status: int = 0, **members: Any
    ) -> int:
        status = status or STATUSES.get(answer.outcome, 409)
        if status >= 300:
            kind = KINDS.get(answer.outcome, answer.outcome.replace("_", "-"))
            members["body"] = {"type": f"/problems/{kind}"}
        return self._tell(call, number, sent_ms, status, epoch=answer.epoch, seq=answer.seq, **members)

    def _tell(self, call: str, number: int, sent_ms: float, status: int, **members: Any) -> int:
        answered_ms = time.time() * 1000
        self.history.append(
            Exchange(person=number, call=call, sent_ms=sent_ms, answered_ms=answered_ms, outcome=status, **members)
        )
        return status
