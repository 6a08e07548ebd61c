"""The rights of fronts and worker in the two stores."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio as redis
from redis.exceptions import NoPermissionError

from reservasi.embedded import EmbeddedValkey, Places, embedded_redis_url
from reservasi.errors import DamagedKey, LedgerFenced
from reservasi.ledger import keys
from reservasi.ledger.access import ADMIN, FRONT, IN_FUNCTIONS, SINCE_7_2, USERS, WORKER, acl_lines, commands
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import DIRECTORY, read_library
from reservasi.ledger.wire import messages
from reservasi.model import Position
from reservasi.records import Records
from reservasi.records.access import RIGHTS
from reservasi.records.roles import FRONT_ROLE, WORKER_ROLE
from reservasi.records.schema import metadata
from reservasi.records.upgrades import upgrade
from tests.conftest import as_superuser
from tests.users import as_user

pytestmark = pytest.mark.any_server

CONFIG = Path(__file__).parents[2] / "config" / "valkey"
RUNTIME = (FRONT, WORKER)
NEVER = (
    ("EVAL", "return 1", 0),
    ("EVALSHA", "0" * 40, 0),
    ("SCRIPT", "LOAD", "return 1"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "DELETE", "reservasi"),
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "RESTORE", "x"),
    ("FUNCTION", "KILL"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "appendfsync", "no"),
    ("CONFIG", "REWRITE"),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("RANDOMKEY",),
    ("SHUTDOWN", "NOSAVE"),
    ("SAVE",),
    ("BGSAVE",),
    ("BGREWRITEAOF",),
    ("MONITOR",),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "front", "+@all"),
    ("ACL", "WHOAMI"),
    ("CLIENT", "KILL", "ID", 1),
    ("CLIENT", "LIST"),
    ("CLIENT", "PAUSE", 1),
    ("CLUSTER", "RESET"),
    ("CLUSTER", "FAILOVER"),
    ("REPLICAOF", "NO", "ONE"),
    ("FAILOVER",),
    ("MODULE", "LIST"),
    ("SWAPDB", 0, 0),
    ("SLOWLOG", "GET"),
    ("SYNC",),
    ("PSYNC", "?", -1),
    ("SET", "{p}:meta", "x"),
    ("GETDEL", "{p}:meta"),
    ("DEL", "{p}:meta"),
    ("RENAME", "{p}:meta", "{p}:other"),
    ("COPY", "{p}:meta", "{p}:other"),
    ("MIGRATE", "127.0.0.1", 1, "{p}:meta", 0, 1),
    ("RESTORE", "{p}:meta", 0, "x"),
    ("DUMP", "{p}:meta"),
    ("SORT", "{p}:meta"),
)
NEVER_A_FRONT = (
    ("FUNCTION", "LOAD", "REPLACE", "#!lua name=x"),
    ("UNLINK", "{p}:meta"),
    ("XTRIM", "{p}:journal", "MAXLEN", 0),
    ("PUBLISH", "{p}:recorded-channel", "x"),
    ("HSET", "{p}:recorded", "position", "x"),
    ("HDEL", "{p}:dead", "x"),
)
OTHER_KEYS = (("HGET", "meta", "x"), ("HSET", "other", "a", "b"), ("SUBSCRIBE", "elsewhere"), ("HGETALL", "{p"))


@pytest_asyncio.fixture
async def as_users(valkey_url: str) -> AsyncIterator[dict[str, redis.Redis]]:
    """A client for each user."""
    clients = {user: redis.Redis.from_url(as_user(valkey_url, user)) for user in USERS}
    yield clients
    for client in clients.values():
        await client.aclose()


@pytest.mark.parametrize("user", RUNTIME)
async def test_whatever_is_not_needed_is_refused(user: str, as_users: dict[str, redis.Redis]) -> None:
    refused = [*NEVER, *OTHER_KEYS, *(NEVER_A_FRONT if user == FRONT else ())]
    assert [command for command in refused if not await _is_refused(as_users[user], command)] == []
    # The server has DEBUG switched off for everybody, and says so first.
    answer = await as_users[ADMIN].execute_command("ACL", "DRYRUN", user, "DEBUG", "SLEEP", 0)  # type: ignore[no-untyped-call]
    assert b"no permissions" in answer


async def _is_refused(client: redis.Redis, command: tuple[object, ...]) -> bool:
    try:
        await client.execute_command(*command)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return True
    except redis.RedisError as error:
        pytest.fail(f"{command}: {error}")
    return False


async def test_a_worker_may_say_what_is_recorded_and_mend_its_words(
    as_users: dict[str, redis.Redis], valkey_url: str, program: str
) -> None:
    journal, recorded, dead = Journal(as_users[WORKER], program), keys.recorded(program), keys.dead_letters(program)
    await journal.publish_recorded(Position(epoch=1, seq=1), ["r"])
    async with redis.Redis.from_url(valkey_url, decode_responses=True) as admin:
        for key, wanted in ((recorded, "hash"), (dead, "set")):
            await admin.delete(key)
            await admin.rpush(key, "something else")
            with pytest.raises(DamagedKey):
                await journal.publish_recorded(Position(epoch=1, seq=2), ["r"])
            await journal.publish_recorded(Position(epoch=1, seq=2), ["r"])
            assert await admin.type(key) == wanted


async def test_nobody_comes_in_without_a_password(valkey_url: str) -> None:
    for userinfo in ("", "front:wrong@", "default:@"):
        async with redis.Redis.from_url(f"unix://{userinfo}{urlsplit(valkey_url).path}") as client:
            with pytest.raises(redis.ConnectionError, match=r"(?i)auth|password"):
                await client.ping()


async def test_a_front_waits_for_functions_that_the_worker_loads(valkey_url: str, tmp_path: Path, program: str) -> None:
    for file in DIRECTORY.glob("*.lua"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "find.lua").write_text((DIRECTORY / "find.lua").read_text() + f"\n-- {program}\n")
    library = read_library(tmp_path)  # as of another version: no server knows it yet
    front = LedgerConnection(as_user(valkey_url, FRONT), program, library)
    worker = LedgerConnection(as_user(valkey_url, WORKER), program, library)
    frame = messages.Frame(command="snapshot", items=messages.pack([[]]))
    try:
        with pytest.raises(LedgerFenced, match="worker has not loaded"):
            await front.call([frame], 5)
        for connection in (worker, front):
            (reply,) = await connection.call([frame], 5)
            assert isinstance(reply, bytes)
            assert messages.peek_fenced(reply)
    finally:
        await front.drop()
        await worker.drop()
        async with redis.Redis.from_url(valkey_url) as admin:
            await admin.function_delete(library.name)


@pytest.mark.parametrize("key_of", [keys.recorded, keys.dead_letters])
async def test_a_worker_may_say_what_is_recorded_and_mend_where_it_is_said(
    key_of: Callable[[str], str], as_users: dict[str, redis.Redis], valkey_url: str, program: str
) -> None:
    journal, position = Journal(as_users[WORKER], program), Position(epoch=1, seq=5)
    await journal.publish_recorded(position, ["r"], epochs=[(1, 0)])
    async with redis.Redis.from_url(valkey_url) as admin:
        await admin.delete(key_of(program))
        await admin.lpush(key_of(program), "x")
    with pytest.raises(DamagedKey):
        await journal.publish_recorded(position, ["r"], epochs=[(1, 0)])
    await journal.publish_recorded(position, ["r"], epochs=[(1, 0)])
    assert await journal.dead_reservations() == {"r"}
    assert await journal.recorded_word() is not None


def test_users_have_the_commands_that_functions_use() -> None:
    used = set()
    for file in DIRECTORY.glob("*.lua"):
        source = file.read_text()
        used |= {name.lower() for name in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", source)}
        used |= {name.lower() for name in re.findall(r"call_in_chunks\(\s*'([A-Z]+)'", source)}
    assert {"hset", "xadd", "zadd", "hmget"} <= used
    assert used <= set(commands(WORKER))
    only_when_loading = {"unlink"}
    assert used - only_when_loading <= set(commands(FRONT))
    assert set(IN_FUNCTIONS) - used <= {"xrange"}, "what no function uses any more"


@pytest.mark.parametrize(("name", "unknown"), [("users.acl", ()), ("users-redis-7.0.acl", SINCE_7_2)])
def test_the_files_for_an_existing_server_say_the_same(name: str, unknown: tuple[str, ...]) -> None:
    lines = acl_lines({user: f">CHANGE-ME-{user}" for user in USERS}, unknown=unknown)
    assert (CONFIG / name).read_text().splitlines() == lines
    assert name in (CONFIG / "valkey.conf").read_text()


async def test_passwords_are_kept_for_the_account_alone_and_survive_a_restart(data_dir: Path) -> None:
    assert "@" not in embedded_redis_url(data_dir)
    server = EmbeddedValkey(data_dir, 60)
    await server.start()
    before = server.url
    await server.stop()
    await server.start()
    try:
        assert server.url == before == embedded_redis_url(data_dir, ADMIN)
        places = Places.of(data_dir)
        passwords = {urlsplit(embedded_redis_url(data_dir, user)).password for user in USERS}
        assert len(passwords) == len(USERS)
        assert places.valkey_users.stat().st_mode & 0o777 == 0o600
        acl = places.etc / "users.acl"
        assert acl.stat().st_mode & 0o777 == 0o600
        readable = [each for each in places.data_dir.rglob("*") if each.is_file() and each != places.valkey_users]
        for password in passwords:
            assert password is not None
            assert all(password.encode() not in each.read_bytes() for each in readable)
    finally:
        await server.stop()


# -- PostgreSQL ------------------------------------------------------------------------------------------------------

FORBIDDEN = (
    "DROP TABLE journal",
    "DROP TABLE bookings",
    "TRUNCATE journal",
    "TRUNCATE bookings, holds",
    "DELETE FROM journal",
    "UPDATE journal SET chain = ''",
    "DELETE FROM epochs",
    "UPDATE epochs SET epoch = 1",
    "UPDATE epochs SET run_id = ''",
    "DELETE FROM bookings",
    "DELETE FROM positions",
    "DELETE FROM quotas",
    "DELETE FROM dead_letters",
    "UPDATE dead_letters SET error = ''",
    "UPDATE deployment SET value = ''",
    "DELETE FROM audit",
    "UPDATE audit SET actor = ''",
    "DELETE FROM deployment",
    "INSERT INTO staff (name, role, api_key_hash) VALUES ('x', 'operator', 'x')",
    "UPDATE staff SET role = 'operator'",
    "UPDATE staff SET scopes = '{read}', last_used_at = now()",
    "UPDATE staff SET disabled_at = NULL",
    "UPDATE staff SET expires_at = NULL",
    "UPDATE programs SET spec = '{}'",
    "UPDATE alembic_version SET version_num = ''",
    "ALTER TABLE journal DROP COLUMN payload",
    "ALTER TABLE bookings DISABLE TRIGGER ALL",
    "ALTER TABLE applicants DROP CONSTRAINT applicants_pk",
    "DROP INDEX applicants_one_live_reservation",
    "CREATE INDEX ON journal (at_ms)",
    "CREATE TABLE mine (a int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "SET ROLE reservasi",
    "SET SESSION AUTHORIZATION reservasi",
    "COPY journal TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_terminate_backend(pg_backend_pid()) FROM pg_authid",
)
FORBIDDEN_TO_A_FRONT = (
    "INSERT INTO journal SELECT * FROM journal",
    "INSERT INTO bookings SELECT * FROM bookings",
    "UPDATE bookings SET state = 'confirmed'",
    "DELETE FROM holds",
    "UPDATE epochs SET base_seq = 0",
    "UPDATE positions SET seq = 0",
    "UPDATE quotas SET capacity = 1000",
    "INSERT INTO audit SELECT * FROM audit",
)


async def _is_forbidden(connection: "asyncpg.Connection[asyncpg.Record]", statement: str) -> bool:
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


@pytest.mark.parametrize("role", [FRONT_ROLE, WORKER_ROLE])
async def test_a_runtime_role_can_neither_drop_nor_alter_nor_rewrite(role: str, database: str) -> None:
    connection = await asyncpg.connect(database.replace("//reservasi@", f"//{role}@"))
    try:
        statements = (*FORBIDDEN, *(FORBIDDEN_TO_A_FRONT if role == FRONT_ROLE else ()))
        assert [each for each in statements if not await _is_forbidden(connection, each)] == []
        for table in RIGHTS[role]:
            await connection.execute(f"SELECT FROM {table} LIMIT 1")
    finally:
        await connection.close()


async def test_a_front_may_note_when_a_key_was_used(database: str) -> None:
    for role, may in ((FRONT_ROLE, True), (WORKER_ROLE, False)):
        connection = await asyncpg.connect(database.replace("//reservasi@", f"//{role}@"))
        try:
            forbidden = await _is_forbidden(connection, "UPDATE staff SET last_used_at = now() WHERE id = 1")
            assert forbidden is not may
        finally:
            await connection.close()


async def test_a_worker_may_say_that_an_epoch_was_never_taken_up(database: str) -> None:
    records = await Records.open(database.replace("//reservasi@", f"//{WORKER_ROLE}@"), 1)
    try:
        assert await records.claim_epoch("p", 1, 0, "run")
        assert await records.claim_epoch("p", 2, 0, "run")
        assert await records.claim_epoch("p", 3, 10, "run", owned_under=1)
        assert [(row.epoch, row.base_seq) for row in await records.epochs("p")] == [(1, 0), (2, 10), (3, 10)]
    finally:
        await records.close()


async def test_rights_are_decided_for_every_table_and_nothing_is_left_of_others(empty_database: str) -> None:
    for rights in RIGHTS.values():
        assert rights.keys() - {"alembic_version"} == metadata.tables.keys()
    await upgrade(empty_database)
    owner = await asyncpg.connect(empty_database)
    await owner.execute(f"GRANT DELETE ON journal TO {WORKER_ROLE}")
    await upgrade(empty_database)
    assert not await owner.fetchval(f"SELECT has_table_privilege('{WORKER_ROLE}', 'journal', 'DELETE')")
    await owner.close()


async def test_a_database_without_the_roles_is_upgraded_all_the_same(empty_database: str) -> None:
    superuser = await asyncpg.connect(as_superuser(empty_database))
    try:
        for role in RIGHTS:
            await superuser.execute(f"ALTER ROLE {role} RENAME TO {role}_away")
        assert (await upgrade(empty_database)).up_to_date
    finally:
        for role in RIGHTS:
            await superuser.execute(f"ALTER ROLE {role}_away RENAME TO {role}")
        await superuser.close()


def test_keys_that_fronts_write_are_those_that_functions_receive() -> None:
    front = next(line for line in acl_lines(dict.fromkeys(USERS, "nopass")) if line.startswith("user front"))
    assert all(f" ~{key} " in front for key in keys.program_keys("*"))
