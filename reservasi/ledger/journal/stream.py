"""Reads a program's journal in order, and publishes how far it is recorded.

Everyone but the ledger follows this stream: the recorder, the availability view, live pages. Each entry is checked
against the previous one, so that loss or divergence is noticed by every reader.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import redis.asyncio as redis_asyncio

from reservasi.errors import DamagedKey, JournalGap, LedgerFault, LedgerUnreachable, ReservasiError
from reservasi.events import JournalEntry, chain_hash
from reservasi.ledger import keys
from reservasi.ledger.journal.entries import decode_entry
from reservasi.ledger.journal.entry_reader import Entries, EntryReader
from reservasi.ledger.topology.clients import LOST, READ_TIMEOUT_S
from reservasi.ledger.topology.cluster import RoutedConnection
from reservasi.ledger.wire.recorded_word import RecordedMessage, RecordedWord, decode_word, encode
from reservasi.ledger.wire.stored_forms import readable
from reservasi.model import Position

ENTRIES_MAX = 512  # per read; one entry holds at most one batch
EPOCHS_MAX = 100  # latest epochs that are published with a recorded position
TRIM_MARGIN_SEQ = 5000  # recorded changes that stay in the stream for followers that lag
START = Position(epoch=0, seq=0)
IDS_PAGE = 1000
NOBODY = ""  # no reservation has this id: removing it tests whether a key is a set, and changes nothing


class Journal:
    """One program's journal. A blocking read occupies one of the client's connections."""

    def __init__(self, client: redis_asyncio.Redis, program: str, *, envelopes: bool = True) -> None:
        """Without `envelopes` each hold has the hash of its envelope instead, which is faster."""
        self._client = client
        self._program = program
        self._envelopes = envelopes
        self._stream = keys.journal(program)
        # In a cluster only redis-py's own client can follow a key that moves.
        moves = issubclass(client.connection_pool.connection_class, RoutedConnection)
        self._reader = None if moves else EntryReader(client, self._stream)
        self._is_waiting = False  # a blocking read of the reader's connection is under way
        self._published = (0, 0)  # epoch and seq of the recorded position that this object published last
        self._entry_events = 1.0  # recent average of events per entry, so that not too many entries are read

    async def read(self, after: Position | None, events_max: int, block_ms: int) -> list[JournalEntry]:
        """The next entries after a position, verified; empty if none came within `block_ms` (0: do not wait).

        Returns at least one entry if there is one, regardless of `events_max`.

        Raises:
            JournalGap: the next entry does not follow `after`, or cannot be read (`UnreadableEntry`).
            LedgerUnreachable: the server does not answer.
        """
        position = after or START
        count = max(1, min(int(events_max / self._entry_events), ENTRIES_MAX))
        since = f"{position.epoch}-{position.seq}"
        stored = await self._stored_entries(since, count, block_ms)
        entries: list[JournalEntry] = []
        events = 0
        for entry_id, fields in stored:
            if entries:
                await asyncio.sleep(0)  # decoding many entries takes milliseconds: let other tasks run
            try:
                entry = decode_entry(entry_id, fields, envelopes=self._envelopes)
                if entries and events + len(entry.events) > events_max:
                    break
                check_follows(position, entry)
            except JournalGap:
                if entries:  # the entries before it are returned; the next read raises
                    break
                raise
            entries.append(entry)
            events += len(entry.events)
            position = entry.position
        if entries:
            self._entry_events = max(1.0, events / len(entries))
        return entries

    async def _stored_entries(self, since: str, count: int, block_ms: int) -> Entries:
        """The entries as they are stored."""
        timeout_s = READ_TIMEOUT_S + block_ms / 1000
        if self._reader is None or self._is_waiting or not block_ms:
            async with self._reaching(timeout_s):
                return _entries(await self._client.xread({self._stream: since}, count=count, block=block_ms or None))
        self._is_waiting = True
        try:
            # Not in `asyncio.timeout`: after a pause of the process it would fire although the reply has arrived.
            return await self._reader.read(since, count, block_ms, timeout_s)
        except LOST as error:
            raise self._fault(error) from error
        finally:
            self._is_waiting = False

    async def rest(self) -> None:
        """Close the connection that waits for entries, until the next read."""
        if self._reader is not None:
            await self._reader.close()

    async def publish_recorded(
        self, position: Position, dead: Sequence[str] = (), *, epochs: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Publish how far PostgreSQL has recorded, and which reservations have a change among the dead letters.

        `epochs` has each epoch and the seq at which it branched off, in ascending order. An earlier position never
        replaces a later one, so that records that are an older copy are detected.

        Raises:
            LedgerUnreachable: the server does not answer; the position is published again with the next batch.
            DamagedKey: a key had another type and was deleted: everything must be published again.
        """
        try:
            await self._publish(position, dead, epochs)
        except DamagedKey:
            await self._forget_damaged_words()
            raise

    async def _publish(self, position: Position, dead: Sequence[str], epochs: Sequence[tuple[int, int]]) -> None:
        is_news = await self._is_news(position)
        lineage = tuple(epochs[-EPOCHS_MAX:])
        word = RecordedWord(epoch=position.epoch, seq=position.seq, lineage=lineage)
        message = RecordedMessage(epoch=position.epoch, seq=position.seq, lineage=lineage, dead=tuple(dead))
        # One transaction: a reader of the position must also find the dead letters up to it.
        async with self._reaching(), self._client.pipeline(transaction=True) as pipeline:
            if is_news:
                pipeline.hset(keys.recorded(self._program), keys.RECORDED_FIELD, encode(word))
            if dead:
                pipeline.sadd(keys.dead_letters(self._program), *dead)
            pipeline.publish(keys.recorded_channel(self._program), encode(message))
            pipeline.srem(keys.dead_letters(self._program), NOBODY)  # fails if the key is not a set
            await pipeline.execute()
        if is_news:
            self._published = (position.epoch, position.seq)

    async def _forget_damaged_words(self) -> None:
        """Delete the keys that the recorder publishes; PostgreSQL has their content."""
        recorded, dead = keys.recorded(self._program), keys.dead_letters(self._program)
        self._published = (0, 0)
        for key, read in (
            (recorded, partial(self._client.hget, recorded, keys.RECORDED_FIELD)),
            (dead, partial(self._client.srem, dead, NOBODY)),
        ):
            try:
                async with self._reaching():
                    await read()
            except DamagedKey:
                async with self._reaching():
                    await self._client.unlink(key)

    async def _is_news(self, position: Position) -> bool:
        """Whether the position is later than the published one, which is read unless this object published it."""
        at = (position.epoch, position.seq)
        if (0, 0) < self._published <= at:
            return True
        before = await self.recorded_word()
        return before is None or (before.epoch, before.seq) <= at

    async def recorded_word(self) -> RecordedWord | None:
        """What was published last; None if there is nothing readable.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        try:
            async with self._reaching():
                stored: Any = await self._client.hget(keys.recorded(self._program), keys.RECORDED_FIELD)
            word = decode_word(stored or b"")
            return msgspec.structs.replace(word, lineage=tuple(sorted(word.lineage)))
        except (msgspec.DecodeError, DamagedKey):
            return None

    async def remaining(self, after_seq: int) -> AsyncIterator[JournalEntry | None]:
        """Every entry in the stream after a seq, in order, unverified; None in place of an unreadable one.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        since: Any = b"0-0"
        while True:
            async with self._reaching():
                reply = await self._client.xread({self._stream: since}, count=ENTRIES_MAX)
            page = _entries(reply)
            for entry_id, fields in page:
                try:
                    entry = decode_entry(entry_id, fields, envelopes=self._envelopes)
                except (LedgerFault, JournalGap):
                    yield None
                else:
                    if entry.position.seq > after_seq:
                        yield entry
            if not page:
                return
            since = page[-1][0]

    async def last_entry_at_ms(self) -> int:
        """When the last change was accepted; 0 if that is unknown.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        async with self._reaching():
            latest: Any = await self._client.xrevrange(self._stream, count=1)
        at = latest[0][1].get(b"at", b"") if latest else b""
        return int(at) if at.isdigit() else 0

    async def scored(self, key_of: Callable[[str], str]) -> AsyncIterator[tuple[bytes, float]]:
        """Members and scores of one of the program's sorted sets, such as `keys.timers`, which must not change
        meanwhile.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        first = 0
        while True:
            async with self._reaching():
                page: Any = await self._client.zrange(
                    key_of(self._program), first, first + IDS_PAGE - 1, withscores=True
                )
            for member, score in page:
                yield member, score
            if len(page) < IDS_PAGE:
                return
            first += IDS_PAGE

    async def dead_reservations(self) -> set[str]:
        """The reservations with dead letters, which fronts do not report as recorded.

        Raises:
            LedgerUnreachable: the server does not answer; DamagedKey: the key has another type.
        """
        async with self._reaching():
            members: Any = await self._client.smembers(keys.dead_letters(self._program))
        return {readable(each) for each in members}

    async def publish_revived(self, reservations: Collection[str]) -> None:
        """Publish that these reservations have no dead letter any more.

        Raises:
            LedgerUnreachable: the server does not answer; a recorder that starts publishes it again.
        """
        if not reservations:
            return
        with contextlib.suppress(DamagedKey):  # the recorder repairs it with its next position
            async with self._reaching():
                await self._client.srem(keys.dead_letters(self._program), *reservations)
        word = await self.recorded_word() or RecordedWord(epoch=0, seq=0, lineage=())  # 0: no front's position moves
        message = RecordedMessage(**msgspec.structs.asdict(word), revived=tuple(sorted(reservations)))
        async with self._reaching():
            await self._client.publish(keys.recorded_channel(self._program), encode(message))

    async def end(self) -> tuple[Position | None, str]:
        """The position of the last entry (None: no entry), and which place of `meta` agrees with it.

        "place": the fields epoch, seq and chain; "copy": the field that repeats them; "": neither.

        Raises:
            LedgerUnreachable: the server does not answer.
            DamagedKey: the journal's key has another type.
        """
        async with self._reaching(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(keys.meta(self._program), "epoch", "seq", "chain", "at")
            pipeline.xrevrange(self._stream, count=1)
            place, latest = await pipeline.execute(raise_on_error=False)
        if isinstance(latest, Exception):
            raise DamagedKey(f"the journal of {self._program} has another type: {latest}")
        if not latest:
            return None, ""
        entry_id, fields = latest[0]
        epoch, _, seq = readable(entry_id).partition("-")
        end = Position(epoch=int(epoch), seq=int(seq), chain=readable(fields.get(b"chain", b"")))
        if isinstance(place, Exception):
            return end, "copy"  # `meta` cannot be read
        epoch_there, *there, at = [readable(each or b"") for each in place]
        if there == [seq, end.chain] and epoch_there.isdigit() and int(epoch_there) >= end.epoch:
            return end, "place"
        return end, "copy" if at.partition("-")[2] == f"{seq}-{end.chain}" or not any((*there, at)) else ""

    async def place_copy(self) -> Position | None:
        """The ledger's position in the copy field of `meta`; None if it cannot be read.

        Raises:
            LedgerUnreachable: the server does not answer.
            DamagedKey: `meta` is not a hash.
        """
        async with self._reaching():
            copy: Any = await self._client.hget(keys.meta(self._program), "at")
        epoch, _, rest = readable(copy or b"").partition("-")
        seq, _, chain = rest.partition("-")
        return Position(epoch=int(epoch), seq=int(seq), chain=chain) if epoch.isdecimal() and seq.isdecimal() else None

    async def is_empty(self) -> bool:
        """Whether the ledger has no quotas, openings or reservations, and no journal.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        held = (keys.quotas, keys.reservations, keys.persons, keys.openings, keys.journal)
        async with self._reaching():
            existing: Any = await self._client.exists(*(key_of(self._program) for key_of in held))
        return not existing

    async def trim(self, recorded: Position, *, margin: int | None = None) -> None:
        """Delete recorded entries, except the last `margin` changes; never an entry that is not recorded.

        `margin` 0: exactly up to the position; otherwise approximately. None: the default margin.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        margin = TRIM_MARGIN_SEQ if margin is None else margin
        if recorded.seq <= margin:
            return
        oldest = f"{recorded.epoch}-{recorded.seq - margin}"
        async with self._reaching():
            await self._client.xtrim(self._stream, minid=oldest, approximate=margin > 0)

    async def reservation_ids(self) -> AsyncIterator[str]:
        """Every reservation id in the ledger, live or ended; an id may appear more than once.

        Raises:
            LedgerUnreachable: the server does not answer, or another server took over: its order differs, so that ids
                could be missed.
        """
        cursor = 0
        key = keys.reservations(self._program)
        first: str | None = None
        while True:
            async with self._reaching():
                pipeline = self._client.pipeline(transaction=False)
                pipeline.hscan(key, cursor, count=IDS_PAGE)
                pipeline.info("server")
                (cursor, page), server = await pipeline.execute()
            first = first or server["run_id"]
            if server["run_id"] != first:
                raise LedgerUnreachable(f"the ledger of {self._program} moved while its reservations were read")
            for reservation_id in page:
                yield readable(reservation_id)
            if cursor == 0:
                return

    async def count(self, key_of: Callable[[str], str]) -> int:
        """How many fields one of the program's hashes has.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        async with self._reaching():
            count: Any = await self._client.hlen(key_of(self._program))
        return int(count)

    async def pages(self, key_of: Callable[[str], str]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Fields and values of one of the program's hashes, such as `keys.persons`; each page is of another moment.

        Raises:
            LedgerUnreachable: the server does not answer.
            DamagedKey: the key is not a hash.
        """
        cursor = 0
        while True:
            async with self._reaching():
                reply: Any = await self._client.hscan(key_of(self._program), cursor, count=IDS_PAGE)
            cursor, page = reply
            for field, value in page.items():
                yield field, value
            if cursor == 0:
                return

    @asynccontextmanager
    async def _reaching(self, timeout_s: float = READ_TIMEOUT_S) -> AsyncIterator[None]:
        """Limit the time of a call and translate its errors: a broken route may give no error."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except LOST as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> ReservasiError:
        if "WRONGTYPE" in str(error):  # in a transaction the message is preceded by the command
            return DamagedKey(f"a key of {self._program} has another type")
        return LedgerUnreachable(f"the journal of {self._program}: {type(error).__name__}")


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries in XREAD's reply, whose form depends on the protocol version."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (lists,) = reply.values()
        return [entry for part in lists for entry in part]
    entries: list[tuple[bytes, dict[bytes, bytes]]] = reply[0][1]
    return entries


def check_follows(position: Position, entry: JournalEntry) -> None:
    """Check that `entry` follows `position` directly.

    Raises:
        JournalGap: seq or chain do not agree.
    """
    if entry.first_seq != position.seq + 1:
        raise JournalGap(f"expected seq {position.seq + 1} of epoch {position.epoch}, found {entry.first_seq}")
    chain = chain_hash(position.chain, entry.epoch, entry.first_seq, entry.at_ms, entry.payload)
    if chain != entry.chain:
        raise JournalGap(f"the entry at seq {entry.first_seq} does not continue the chain of the previous one")
