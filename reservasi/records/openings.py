"""Openings in the records: each change writes the whole row."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from reservasi.model import Opening, OpeningTerms, join_offices, split_offices
from reservasi.records.effects import OpeningChange, Unapplicable
from reservasi.records.pool import Connection

# Column names of the terms; the rate of the terms and the rate in force have separate names.
TERMS = tuple("first_rate_per_min" if name == "rate_per_min" else name for name in OpeningTerms.__struct_fields__)
STATE = tuple(name for name in Opening.__struct_fields__ if name not in ("id", "terms"))
COLUMNS = ("id", *TERMS, *STATE, "epoch", "seq", "retired_at_ms")
TEXTS = {"id", "commitment", "sealed_seed", "offices", "beacon_source", "beacon", "reason", "reason_en"}
FLAGS = {"waiting_room", "proof_of_work", "adaptive", "paused", "drawn", "rate_fixed", "cancelled"}


def _type_of(column: str) -> str:
    return "text" if column in TEXTS else "bool" if column in FLAGS else "bigint"


# A row may not reverse a mark, a commitment, a draw or a cancellation; the id of a retired opening may be used again.
SET_OPENINGS = f"""
INSERT INTO openings AS o (program, {", ".join(COLUMNS)})
SELECT $1, * FROM unnest({", ".join(f"${at}::{_type_of(name)}[]" for at, name in enumerate(COLUMNS, 2))})
ON CONFLICT (program, id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
WHERE o.retired_at_ms > 0 OR o.commitment = excluded.commitment AND o.admitted_through <= excluded.admitted_through
  AND o.arrived <= excluded.arrived AND o.beacon IN ('', excluded.beacon) AND o.beacon_source = excluded.beacon_source
  AND (NOT o.drawn OR (excluded.drawn AND o.joined = excluded.joined AND o.opens_at_ms = excluded.opens_at_ms))
  AND (NOT o.cancelled OR excluded.cancelled)
"""  # noqa: S608 - constants of this file
RETIRE_OPENINGS = """
UPDATE openings o SET retired_at_ms = c.retired_at_ms
FROM unnest($2::text[], $3::bigint[]) AS c(id, retired_at_ms)
WHERE o.program = $1 AND o.id = c.id AND o.retired_at_ms = 0
"""
IN_LEDGER = f"""
SELECT {", ".join(COLUMNS)} FROM openings WHERE program = $1 AND retired_at_ms = 0 ORDER BY id
"""  # noqa: S608 - the same


async def write_openings(connection: Connection, program: str, changes: Iterable[OpeningChange]) -> None:
    """Write the state of openings after a batch.

    Raises:
        Unapplicable: one contradicts the recorded row.
    """
    rows = [_row(change) for change in changes]
    if rows:
        done = await connection.execute(SET_OPENINGS, program, *(list(column) for column in zip(*rows, strict=True)))
        if int(done.rsplit(" ", 1)[1]) != len(rows):
            raise Unapplicable("an opening contradicts its recorded state")


async def retire_openings(connection: Connection, program: str, retired: Mapping[str, int]) -> None:
    """Write when recorded openings left the ledger.

    Raises:
        Unapplicable: one is not recorded, or was retired before.
    """
    if retired:
        done = await connection.execute(RETIRE_OPENINGS, program, list(retired), list(retired.values()))
        if int(done.rsplit(" ", 1)[1]) != len(retired):
            raise Unapplicable("an opening that was retired is not recorded")


async def load_openings(connection: Connection, program: str) -> list[Opening]:
    """The recorded openings of a program that are in its ledger, by id."""
    return [
        Opening(
            id=row["id"],
            terms=_terms(row),
            **{name: row[name] for name in STATE},
        )
        for row in await connection.fetch(IN_LEDGER, program)
    ]


def _row(change: OpeningChange) -> tuple[object, ...]:
    opening = change.opening
    kept = msgspec.structs.asdict(opening.terms) | {"offices": join_offices(opening.terms.offices)}
    state = (getattr(opening, name) for name in STATE)
    return (opening.id, *kept.values(), *state, change.epoch, change.seq, change.retired_at_ms)


def _terms(row: Any) -> OpeningTerms:
    named = {name: row[column] for name, column in zip(OpeningTerms.__struct_fields__, TERMS, strict=True)}
    return OpeningTerms(**{**named, "offices": split_offices(named["offices"])})
