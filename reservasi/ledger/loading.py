"""Filling a fenced ledger from the records, step by step, as `lua/load.lua` says."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgpack

from reservasi.contents import EndedReservation, KeptReservation, ReturningPlaces
from reservasi.errors import LedgerMoved, ReservasiError
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.wire import messages, openings
from reservasi.model import Opening, Position, QuotaTerms

CALL_TIMEOUT_S = 30.0  # a call does a bounded batch, but the server's disk may be slow
ROWS_MAX = 1000  # in one call


class Loader:
    """Loads one program's ledger; whoever fences it later, or owns it, makes this one stop at its next step."""

    def __init__(self, connection: LedgerConnection) -> None:
        self._connection = connection
        self._token = secrets.token_hex(8)

    async def fence(self) -> Position:
        """Let nobody sell from the ledger; where it was then.

        Raises:
            LedgerUnreachable, LedgerFenced, LedgerFault: it may be fenced or not; its owner will own it again.
        """
        _, seq, epoch, chain = await self._ask("fence", [self._token])
        return Position(epoch=int(epoch), seq=int(seq), chain=chain)

    async def begin(self, seen: Position) -> None:
        """Empty the ledger, provided that it is where it was fenced; from now on it can only be loaded.

        Raises:
            LedgerMoved: it is elsewhere, or another one is at it.
            LedgerUnreachable, LedgerFenced, LedgerFault: it may be emptied or not.
        """
        await self._load("begin", [[seen.epoch, seen.seq, seen.chain]])

    async def quotas(
        self, rows: Sequence[tuple[str, int, QuotaTerms] | tuple[str, int, QuotaTerms, tuple[int, ...]]]
    ) -> None:
        """Load quotas, each (id, version, terms, what imports set of them); before everything that speaks of them."""
        await self._load(
            "quotas",
            [
                [id_, version, [*messages.encode_terms(terms), *(list(each) for each in imported if each)]]
                for id_, version, terms, *imported in rows
            ],
        )

    async def past(self, rows: Sequence[tuple[str, int]]) -> None:
        """Load the names of retired quotas, each (id, when it was retired), to which ended reservations refer."""
        await self._load("past", [list(row) for row in rows])

    async def openings(self, rows: Sequence[Opening]) -> None:
        """Load openings."""
        await self._load("openings", [openings.encode_opening(opening) for opening in rows])

    async def reservations(self, rows: Sequence[tuple[str, KeptReservation]]) -> None:
        """Load live reservations with their persons, places and deadlines."""
        await self._load("live", [_encode(id_, reservation) for id_, reservation in rows])

    async def ended(self, rows: Sequence[EndedReservation]) -> None:
        """Load ended reservations, so that a replay finds its answer."""
        await self._load("ended", [[*_encode(row.reservation_id, row.reservation), row.ended_at_ms] for row in rows])

    async def returns(self, rows: Sequence[ReturningPlaces]) -> None:
        """Load places on their way back."""
        await self._load("returns", [[row.quota, row.seq, row.places, row.at_ms] for row in rows])

    async def own(self, epoch: int, recorded: Position) -> None:
        """The last step: what is loaded is the records' state at `recorded`, and may be sold from under `epoch`."""
        await self._load("own", [[epoch, recorded.seq, recorded.chain]])

    async def _load(self, step: str, rows: list[list[Any]]) -> None:
        for first in range(0, len(rows), ROWS_MAX):
            answer = await self._ask("load", [self._token, step, rows[first : first + ROWS_MAX]])
            if answer[0] != "loaded":
                raise LedgerMoved(f"the ledger of {self._connection.program} was taken over at {step!r}: begin anew")

    async def _ask(self, command: str, item: list[Any]) -> list[Any]:
        # A damaged chain comes back as it was told.
        packed = msgpack.packb([item], use_bin_type=False, unicode_errors="surrogateescape")
        (reply,) = await self._connection.call([messages.Frame(command=command, items=packed)], CALL_TIMEOUT_S)
        if isinstance(reply, ReservasiError):
            raise reply
        answer: list[Any] = messages.decode_reply(reply).answers[0]
        return answer


def _encode(reservation_id: str, of: KeptReservation) -> list[Any]:
    state = messages.STATE_LETTERS[of.state]
    return [
        reservation_id, of.quota, state, of.fingerprint, of.deadline_ms, of.held_seq, of.seq, of.reference, of.persons,
    ]  # fmt: skip
