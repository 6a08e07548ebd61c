"""Openings as recorded: written whole with each change, and read as the ledger had them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from reservasi.model import Opening, OpeningTerms, join_offices, split_offices
from reservasi.records.effects import OpeningChange, Unapplicable
from reservasi.records.pool import Connection

# Column names of the terms; a rate of the terms and the one in force need two.
TERMS = tuple("first_rate_per_min" if name == "rate_per_min" else name for name in OpeningTerms.__struct_fields__)
STATE = tuple(name for name in Opening.__struct_fields__ if name not in ("id", "terms"))
COLUMNS = ("id", *TERMS, *STATE, "epoch", "seq")
TEXTS = {"id", "commitment", "sealed_seed", "offices", "beacon", "reason", "reason_en"}
FLAGS = {"waiting_room", "proof_of_work", "adaptive", "paused", "drawn", "rate_fixed", "cancelled"}


def _type_of(column: str) -> str:
    return "text" if column in TEXTS else "bool" if column in FLAGS else "bigint"


# Nothing may be recorded that goes back on a mark, a commitment, a draw or a cancellation.
SET_OPENINGS = f"""
INSERT INTO openings AS o (program, {", ".join(COLUMNS)})
SELECT $1, * FROM unnest({", ".join(f"${at}::{_type_of(name)}[]" for at, name in enumerate(COLUMNS, 2))})
ON CONFLICT (program, id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
WHERE o.commitment = excluded.commitment AND o.admitted_through <= excluded.admitted_through
  AND o.arrived <= excluded.arrived AND o.beacon IN ('', excluded.beacon)
  AND (NOT o.drawn OR (excluded.drawn AND o.joined = excluded.joined AND o.opens_at_ms = excluded.opens_at_ms))
  AND (NOT o.cancelled OR excluded.cancelled)
"""  # noqa: S608 - constants of this file
OPENINGS = f"SELECT {', '.join(COLUMNS)} FROM openings WHERE program = $1 ORDER BY id"  # noqa: S608 - the same


async def write_openings(connection: Connection, program: str, changes: Iterable[OpeningChange]) -> None:
    """Write openings as a batch leaves them.

    Raises:
        Unapplicable: one contradicts what is recorded.
    """
    rows = [_row(change) for change in changes]
    if rows:
        done = await connection.execute(SET_OPENINGS, program, *(list(column) for column in zip(*rows, strict=True)))
        if int(done.rsplit(" ", 1)[1]) != len(rows):
            raise Unapplicable("an opening contradicts what is recorded of it")


async def load_openings(connection: Connection, program: str) -> list[Opening]:
    """All openings of a program, by id."""
    return [
        Opening(
            id=row["id"],
            terms=_terms(row),
            **{name: row[name] for name in STATE},
        )
        for row in await connection.fetch(OPENINGS, program)
    ]


def _row(change: OpeningChange) -> tuple[object, ...]:
    opening = change.opening
    *terms, offices = msgspec.structs.astuple(opening.terms)
    state = (getattr(opening, name) for name in STATE)
    return (opening.id, *terms, join_offices(offices), *state, change.epoch, change.seq)


def _terms(row: Any) -> OpeningTerms:
    named = {name: row[column] for name, column in zip(OpeningTerms.__struct_fields__, TERMS, strict=True)}
    return OpeningTerms(**{**named, "offices": split_offices(named["offices"])})
