"""Builds the objects for one program's ledger from the settings."""

from reservasi.ledger.acknowledging import Acks, acks_wanted
from reservasi.ledger.await_records import RecordsInstead
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.ledger.topology.servers import Servers
from reservasi.settings import Settings


class Ledgers:
    """Builds the objects for one program's ledger."""

    def __init__(self, settings: Settings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        self._library = read_library()

    def connection(self, program: str, acks: Acks | None = None) -> LedgerConnection:
        """A new connection; its changes count as safe without acknowledgement unless `acks` says otherwise."""
        return LedgerConnection(self._servers.of(program), program, self._library, acks)

    @property
    def acks(self) -> Acks | None:
        """The acknowledgements that the settings require before a change is promised; None: none."""
        settings = self._settings
        return acks_wanted(
            replicas=settings.replicas_min_ack, timeout_ms=settings.replicas_ack_timeout_ms, aof=settings.aof_ack
        )

    async def promotable_replicas(self) -> int | None:
        """How many replicas may be promoted automatically; None if none would be, or the number is unknown."""
        return await self._servers.promotable()

    def journal(self, program: str) -> Journal:
        """A reader of the program's journal."""
        return Journal(self._servers.client_of(program), program)

    def journal_of_views(self, program: str) -> Journal:
        """A reader that does not decode envelopes, which views do not need."""
        return Journal(self._servers.client_of(program), program, envelopes=False)

    def openings(self, program: str) -> OpeningWatch:
        """A reader of the program's openings."""
        return OpeningWatch(self._servers.client_of(program), program)

    def recorded(self) -> RecordedPositions:
        """Recorded positions that follow no program yet."""
        return RecordedPositions(self._servers.client, self._servers.client_of)

    def group(self, program: str, recorded: RecordedPositions | None = None) -> GroupCommit:
        """A group commit that is not started; with `recorded`, records count if too few replicas acknowledge."""
        settings = self._settings
        instead = RecordsInstead(program, recorded, held_max=settings.queue_items_max) if recorded else None
        return GroupCommit(
            self.connection(program, self.acks),
            batch_items_max=settings.batch_items_max,
            queue_items_max=settings.queue_items_max,
            command_timeout_ms=settings.command_timeout_ms,
            tombstone_ms=settings.tombstone_ms,
            queue_delay_target_ms=settings.queue_delay_target_ms,
            instead=instead,
            settle_ms=settings.view_stale_ms,
        )
