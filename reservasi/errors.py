"""Every fault the service raises on purpose.

Expected refusals are outcomes (`model.Outcome`), not exceptions. What stands here means that something could not
be done at all::

    ReservasiError
    ├── ConfigurationError          a setting, file or directory cannot be used as given
    │   └── ProgramFileError        a program file is refused whole, with line and field
    ├── EmbeddedServerError         a server we ship did not come up, or died
    ├── Unavailable                 cannot be answered now; asking again is safe
    │   ├── Overloaded              a bounded queue is full, or a deadline passed before the work was sent
    │   ├── LedgerUnreachable       no connection, or no reply in time: the command may have been carried out
    │   ├── ItemDamaged             what is stored of it in the ledger is damaged: refused until it is mended
    │   ├── DamagedKey              a program's key in the ledger is of another type than it should be
    │   ├── LedgerFenced            the ledger is not owned; it sells nothing until recovery has owned it
    │   ├── NotReplicated           carried out, but neither enough replicas nor the records have it: it may be lost
    │   ├── LedgerMoved             somebody else was at the ledger meanwhile: look again
    │   └── RecordsUnavailable      PostgreSQL does not answer
    │       └── SchemaMissing       it does, and its schema is missing or older than this version
    ├── LedgerFault                 the ledger answered with an error or something unreadable: a bug
    ├── JournalGap                  an entry is missing or does not chain to the one before it
    │   └── UnreadableEntry         an entry of which nothing can be followed: fields are missing, or it is no msgpack
    ├── StaleRecorder               another recorder moved the position first
    └── RebuildRefused              rebuilding the ledger would forget what only it knows
"""

from dataclasses import dataclass


class ReservasiError(Exception):
    """The root of all faults raised by this package."""


class ConfigurationError(ReservasiError):
    """A setting, a file or a directory cannot be used as given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFinding:
    """One thing that is wrong in a file."""

    line: int  # 1-based; 0 when the finding belongs to no single line
    field: str  # dotted path, such as "offices[0].slots[1].start"
    message: str  # what is wrong and what is allowed

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.field}: {self.message}"


class ProgramFileError(ConfigurationError):
    """A program file is refused whole; `findings` names each line and field."""

    def __init__(self, path: str, findings: list[FileFinding]) -> None:
        self.path = path
        self.findings = findings
        super().__init__("\n".join([f"{path} is refused, nothing was imported:", *(f"  {f}" for f in findings)]))


class UnreadableFile(ProgramFileError):
    """A program file that is not there, or that nothing can be read of."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(path, [FileFinding(line=0, field="file", message=message)])
        self.args = (f"{path} {message}; nothing was imported",)


class EmbeddedServerError(ReservasiError):
    """A server we ship did not come up, or died."""


class Unavailable(ReservasiError):
    """Cannot be answered now; the same request may be sent again safely."""


class Overloaded(Unavailable):
    """A bounded queue is full, or the deadline passed before the work was sent."""


class LedgerUnreachable(Unavailable):
    """No connection or no reply in time; the command may or may not have been carried out."""


class LedgerFenced(Unavailable):
    """The ledger is not owned by this deployment; it sells nothing until recovery has owned it."""


class ItemDamaged(Unavailable):
    """Something stored that the command needs cannot be read, or contradicts the rest; others are not affected."""

    def __init__(self, message: str, *, alone: bool = False) -> None:
        """`alone`: the ledger had to decide its batch in parts to find it."""
        self.alone = alone
        super().__init__(message)


class DamagedKey(Unavailable):
    """One of a program's keys in the ledger is of another type than it should be; it is mended by a rebuild."""


class LedgerMoved(Unavailable):
    """Somebody else was at the ledger in the meantime; nothing was decided, look again."""


class NotReplicated(Unavailable):
    """Carried out, but neither enough replicas nor the records have it: it may be lost; a repeat finds it or not."""


class RecordsUnavailable(Unavailable):
    """PostgreSQL does not answer."""


class SchemaMissing(RecordsUnavailable):
    """PostgreSQL answers, but its schema is missing or older than this version: somebody has to upgrade it."""


class LedgerFault(ReservasiError):
    """The ledger answered with an error, or with something that cannot be read: always a bug."""


class JournalGap(ReservasiError):
    """A journal entry is missing, or does not chain to the one before it."""


class UnreadableEntry(JournalGap):
    """A journal entry that cannot be read at all, so that nothing behind it can be followed either."""


class StaleRecorder(ReservasiError):
    """Another recorder has moved the recorded position first."""


class RemovalRefused(ReservasiError):
    """A program is not removed: people would lose what they have, or somebody else is at it."""


class RebuildRefused(ReservasiError):
    """The ledger is not rebuilt unasked: that would forget what only it knows."""
