"""Fills a fenced ledger from the records, step by step, as described in `lua/load.lua`."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgpack

from reservasi.contents import EndedReservation, KeptReservation, ReturningPlaces
from reservasi.errors import LedgerMoved, ReservasiError
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.wire import messages, openings
from reservasi.model import Opening, Position, QuotaTerms

CALL_TIMEOUT_S = 30.0  # a call handles a bounded batch, but the server's disk may be slow
ROWS_MAX = 1000  # per call


class Loader:
    """Loads one program's ledger; if another process fences or owns it, this one stops at its next step."""

    def __init__(self, connection: LedgerConnection) -> None:
        self._connection = connection
        self._token = secrets.token_hex(8)

    async def fence(self) -> Position:
        """Fence the ledger, so that it sells nothing; returns its position.

        Raises:
            LedgerUnreachable, LedgerFenced, LedgerFault: it may be fenced or not; its owner will own it again.
        """
        _, seq, epoch, chain = await self._ask("fence", [self._token])
        return Position(epoch=int(epoch), seq=int(seq), chain=chain)

    async def begin(self, seen: Position) -> None:
        """Empty the ledger if it is still where it was fenced; from now on it can only be loaded.

        Raises:
            LedgerMoved: its position is another one, or another process uses it.
            LedgerUnreachable, LedgerFenced, LedgerFault: it may be emptied or not.
        """
        await self._load("begin", [[seen.epoch, seen.seq, seen.chain]])

    async def quotas(
        self, rows: Sequence[tuple[str, int, QuotaTerms] | tuple[str, int, QuotaTerms, tuple[int, ...]]]
    ) -> None:
        """Load quotas, each (id, version, terms, values set by imports); before anything that names them."""
        await self._load(
            "quotas",
            [
                [id_, version, [*messages.encode_terms(terms), *(list(each) for each in imported if each)]]
                for id_, version, terms, *imported in rows
            ],
        )

    async def past(self, rows: Sequence[tuple[str, int]]) -> None:
        """Load the names of retired quotas, each (id, time of retirement), to which ended reservations refer."""
        await self._load("past", [list(row) for row in rows])

    async def openings(self, rows: Sequence[Opening]) -> None:
        await self._load("openings", [openings.encode_opening(opening) for opening in rows])

    async def reservations(self, rows: Sequence[tuple[str, KeptReservation]]) -> None:
        """Load live reservations with their persons, places and deadlines."""
        await self._load("live", [_encode(id_, reservation) for id_, reservation in rows])

    async def ended(self, rows: Sequence[EndedReservation]) -> None:
        """Load ended reservations, so that a replay finds its answer."""
        await self._load("ended", [[*_encode(row.reservation_id, row.reservation), row.ended_at_ms] for row in rows])

    async def returns(self, rows: Sequence[ReturningPlaces]) -> None:
        """Load returning places."""
        await self._load("returns", [[row.quota, row.seq, row.places, row.at_ms] for row in rows])

    async def own(self, epoch: int, recorded: Position) -> None:
        """The last step: the loaded state is the records' at `recorded`, and may be sold from under `epoch`."""
        await self._load("own", [[epoch, recorded.seq, recorded.chain]])

    async def _load(self, step: str, rows: list[list[Any]]) -> None:
        for first in range(0, len(rows), ROWS_MAX):
            answer = await self._ask("load", [self._token, step, rows[first : first + ROWS_MAX]])
            if answer[0] != "loaded":
                raise LedgerMoved(f"the ledger of {self._connection.program} was taken over at {step!r}: start again")

    async def _ask(self, command: str, item: list[Any]) -> list[Any]:
        # A damaged chain is returned as it was given.
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
