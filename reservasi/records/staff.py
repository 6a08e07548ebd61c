"""Staff keys: who may call the staff API, for which programs, with which scopes, and until when.

A key is one row, also when its secret changes: `rotate` keeps the previous secret until `previous_until`. Names are
unique among the keys that are not revoked.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from reservasi.errors import ConfigurationError
from reservasi.model import ACTOR_CHARS_MAX, SCOPES_OF_ROLE, StaffRole, StaffScope
from reservasi.records.pool import Connection

COLUMNS = "id, name, role, scopes, programs, created_at, expires_at, disabled_at, last_used_at, previous_until"
ADD = """
INSERT INTO staff (name, role, api_key_hash, scopes, programs, expires_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING *
"""
NOTE_CHANGE = "INSERT INTO staff_changes (actor, change, staff_id, name, after) VALUES ($1, $2, $3, $4, $5)"
CHANGES = """
SELECT at, actor, change, name, after::text AS after FROM staff_changes
WHERE at >= coalesce($1, '-infinity'::timestamptz) AND at < coalesce($2, 'infinity'::timestamptz)
  AND ($3::text IS NULL OR after->'programs' = 'null' OR after->'programs' ? $3) ORDER BY id DESC LIMIT $4
"""
# The previous secret ends with its overlap, or with the key.
BY_KEY_HASH = """
SELECT id, name, role, scopes, programs, created_at, disabled_at, last_used_at, previous_until,
  CASE WHEN api_key_hash = $1 THEN expires_at ELSE least(expires_at, previous_until) END AS expires_at
FROM staff WHERE api_key_hash = $1 OR previous_hash = $1
"""
ALL = f"SELECT {COLUMNS} FROM staff ORDER BY disabled_at IS NOT NULL, name, id"  # noqa: S608 - constants of this file
REVOKE = f"""
UPDATE staff SET disabled_at = now(), previous_hash = NULL, previous_until = NULL
WHERE name = $1 AND disabled_at IS NULL RETURNING {COLUMNS}
"""  # noqa: S608 - the same
ROTATE = f"""
UPDATE staff SET api_key_hash = $2, expires_at = coalesce($4, expires_at),
  previous_hash = CASE WHEN least(now() + $3::interval, expires_at) > now() THEN api_key_hash END,
  previous_until = CASE WHEN least(now() + $3::interval, expires_at) > now()
    THEN least(now() + $3::interval, expires_at) END
WHERE name = $1 AND disabled_at IS NULL RETURNING {COLUMNS}
"""  # noqa: S608 - the same
RENAME = f"""
UPDATE staff SET name = $2 WHERE name = $1 AND disabled_at IS NULL RETURNING {COLUMNS}
"""  # noqa: S608 - the same
NOTE_USE = """
UPDATE staff SET last_used_at = used.at FROM unnest($1::bigint[], $2::timestamptz[]) AS used (id, at)
WHERE staff.id = used.id AND (staff.last_used_at IS NULL OR staff.last_used_at < used.at)
"""


class StaffChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a staff key."""

    at: dt.datetime
    actor: str
    change: str  # added, renamed, rotated or revoked
    name: str  # the key's name before the change
    after: dict[str, Any]  # state after the change


class StaffRow(msgspec.Struct, frozen=True, kw_only=True):
    """A staff key without its secret."""

    id: int
    name: str
    role: str
    scopes: frozenset[str]
    programs: frozenset[str] | None  # None: all
    created_at: dt.datetime
    expires_at: dt.datetime | None = None  # of the secret that was looked up
    revoked_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None  # accurate to about a minute
    previous_until: dt.datetime | None = None  # until then the previous secret works as well

    @property
    def actor(self) -> str:
        """The key's name as an actor in the journal."""
        name = "".join(letter if letter.isprintable() else "?" for letter in self.name)
        return f"staff:{name}"[:ACTOR_CHARS_MAX]

    def may(self, program: str) -> bool:
        """Whether the key is for the program."""
        return self.programs is None or program in self.programs

    def has_expired(self, now: dt.datetime) -> bool:
        """Whether the key has expired at `now`."""
        return self.expires_at is not None and self.expires_at <= now


async def add_staff(
    connection: Connection,
    name: str,
    role: str,
    key_hash: str,
    *,
    scopes: Sequence[str] | None = None,
    programs: Sequence[str] | None = None,
    expires_at: dt.datetime | None = None,
    actor: str = "",
) -> int:
    """Add a staff key, identified by the keyed hash of its secret; without `scopes` it gets its role's. Returns its id.

    `actor` is who makes the change, here and in the functions below.

    Raises:
        ConfigurationError: a key that is not revoked has the name.
    """
    given = SCOPES_OF_ROLE.get(role, SCOPES_OF_ROLE[StaffRole.VIEWER]) if scopes is None else scopes
    in_order = [scope for scope in StaffScope if scope in given]
    try:
        async with connection.transaction():
            rows = await connection.fetch(ADD, name, role, key_hash, in_order, programs, expires_at)
            (added,) = [await _noted(connection, row, actor, "added", name) for row in rows]
    except asyncpg.UniqueViolationError as error:
        raise _taken(name) from error
    return added.id


async def find_staff(connection: Connection, key_hash: str) -> StaffRow | None:
    """The key of this secret, also if it is revoked or expired; None if there is none."""
    row = await connection.fetchrow(BY_KEY_HASH, key_hash)
    return None if row is None else _row(row)


async def list_staff(connection: Connection) -> list[StaffRow]:
    """All keys; revoked ones come last."""
    return [_row(row) for row in await connection.fetch(ALL)]


async def revoke_staff(connection: Connection, name: str, *, actor: str = "") -> StaffRow | None:
    """Revoke a key with all its secrets; None if no valid key has the name."""
    async with connection.transaction():
        row = await connection.fetchrow(REVOKE, name)
        return None if row is None else await _noted(connection, row, actor, "revoked", name)


async def rotate_staff(
    connection: Connection,
    name: str,
    key_hash: str,
    overlap: dt.timedelta,
    expires_at: dt.datetime | None = None,
    *,
    actor: str = "",
) -> StaffRow | None:
    """Give a key a new secret; the previous one works for `overlap`. None if no valid key has the name."""
    async with connection.transaction():
        row = await connection.fetchrow(ROTATE, name, key_hash, overlap, expires_at)
        return None if row is None else await _noted(connection, row, actor, "rotated", name)


async def rename_staff(connection: Connection, old: str, new: str, *, actor: str = "") -> StaffRow | None:
    """Rename a key; None if no valid key has the old name.

    Raises:
        ConfigurationError: a key that is not revoked has the new name.
    """
    try:
        async with connection.transaction():
            row = await connection.fetchrow(RENAME, old, new)
            return None if row is None else await _noted(connection, row, actor, "renamed", old)
    except asyncpg.UniqueViolationError as error:
        raise _taken(new) from error


async def staff_changes(
    connection: Connection,
    program: str | None = None,
    *,
    first: dt.datetime | None = None,
    until: dt.datetime | None = None,
    limit: int,
) -> list[StaffChange]:
    """Changes of staff keys from `first` on and before `until`, newest first, of one program or of all."""
    rows = await connection.fetch(CHANGES, first, until, program, limit)
    return [StaffChange(**{**row, "after": json.loads(row["after"])}) for row in rows]


async def note_use(connection: Connection, used: Mapping[int, dt.datetime]) -> None:
    """Write when keys were last used, by their ids."""
    await connection.execute(NOTE_USE, list(used), list(used.values()))


async def _noted(connection: Connection, changed: "asyncpg.Record", actor: str, change: str, name: str) -> StaffRow:
    """The changed key; its change is written in the same transaction."""
    row = _row(changed)
    after = {
        "name": row.name,
        "scopes": [scope for scope in StaffScope if scope in row.scopes],
        "programs": None if row.programs is None else sorted(row.programs),
        "expires": _moment(row.expires_at),
        "previous_until": _moment(row.previous_until),
        "revoked": _moment(row.revoked_at),
    }
    await connection.execute(NOTE_CHANGE, actor, change, row.id, name, json.dumps(after))
    return row


def _moment(at: dt.datetime | None) -> str | None:
    return None if at is None else at.astimezone(dt.UTC).isoformat(timespec="seconds")


def _taken(name: str) -> ConfigurationError:
    return ConfigurationError(f"a staff key {name} exists: revoke or rename it, or choose another name")


def _row(row: "asyncpg.Record") -> StaffRow:
    return StaffRow(
        id=row["id"],
        name=row["name"],
        role=row["role"],
        scopes=frozenset(row["scopes"]),
        programs=None if row["programs"] is None else frozenset(row["programs"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["disabled_at"],
        last_used_at=row["last_used_at"],
        previous_until=row["previous_until"],
    )
