"""Every exception that the service raises on purpose.

Expected refusals are outcomes (`model.Outcome`), not exceptions. An exception means that something could not be done at
all::

    ReservasiError
    ├── ConfigurationError          a setting, file or directory cannot be used as given
    │   └── ProgramFileError        a program file is refused as a whole, with line and field
    ├── EmbeddedServerError         a server that we ship did not start, or died
    ├── Unavailable                 cannot be answered now; the same request may be repeated
    │   ├── Overloaded              a bounded queue is full, or a deadline passed before the work was sent
    │   ├── LedgerUnreachable       no connection, or no reply in time: the command may have been carried out
    │   ├── ItemDamaged             stored data of the command is damaged: refused until it is repaired
    │   ├── DamagedKey              a key of a program in the ledger has the wrong type
    │   ├── LedgerFenced            the ledger is not owned; it sells nothing until recovery has owned it
    │   ├── NotReplicated           carried out, but neither enough replicas nor the records have it: may be lost
    │   ├── LedgerMoved             another process changed the ledger meanwhile: read it again
    │   └── RecordsUnavailable      PostgreSQL does not answer
    │       └── SchemaMissing       it answers, but its schema is missing or older than this version
    ├── LedgerFault                 the ledger answered with an error or something unreadable: a bug
    ├── JournalGap                  an entry is missing or does not continue the chain
    │   └── UnreadableEntry         an entry that cannot be followed: fields are missing, or it is not msgpack
    ├── StaleRecorder               another recorder moved the position first
    ├── RemovalRefused              a program is not removed: people would lose what they have
    └── RebuildRefused              rebuilding the ledger would lose changes that only it has
"""

from dataclasses import dataclass


class ReservasiError(Exception):
    """The root of all exceptions of this package."""


class ConfigurationError(ReservasiError):
    """A setting, a file or a directory cannot be used as given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFinding:
    """One error in a file."""

    line: int  # 1-based; 0 if it concerns no single line
    field: str  # dotted path, such as "offices[0].slots[1].start"
    message: str  # the error and what is allowed

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.field}: {self.message}"


class ProgramFileError(ConfigurationError):
    """A program file is refused as a whole; `findings` name each line and field."""

    def __init__(self, path: str, findings: list[FileFinding]) -> None:
        self.path = path
        self.findings = findings
        super().__init__("\n".join([f"{path} is refused, nothing was imported:", *(f"  {f}" for f in findings)]))


class UnreadableFile(ProgramFileError):
    """A program file that does not exist or cannot be read."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(path, [FileFinding(line=0, field="file", message=message)])
        self.args = (f"{path} {message}; nothing was imported",)


class EmbeddedServerError(ReservasiError):
    """A server that we ship did not start, or died."""


class Unavailable(ReservasiError):
    """Cannot be answered now; the same request may be repeated safely."""


class Overloaded(Unavailable):
    """A bounded queue is full, or the deadline passed before the work was sent."""


class LedgerUnreachable(Unavailable):
    """No connection or no reply in time; the command may or may not have been carried out."""


class LedgerFenced(Unavailable):
    """The ledger is not owned by this deployment; it sells nothing until recovery has owned it."""


class ItemDamaged(Unavailable):
    """Stored data that the command needs is damaged or contradictory; other commands are not affected."""

    def __init__(self, message: str, *, alone: bool = False) -> None:
        """`alone`: the ledger had to decide the batch in parts to find it."""
        self.alone = alone
        super().__init__(message)


class DamagedKey(Unavailable):
    """A key of a program in the ledger has the wrong type; a rebuild repairs it."""


class LedgerMoved(Unavailable):
    """Another process changed the ledger meanwhile; nothing was decided, read it again."""


class NotReplicated(Unavailable):
    """Carried out, but neither enough replicas nor the records have it: it may be lost; a repeat finds out."""


class RecordsUnavailable(Unavailable):
    """PostgreSQL does not answer."""


class SchemaMissing(RecordsUnavailable):
    """PostgreSQL answers, but its schema is missing or older than this version: it must be upgraded."""


class LedgerFault(ReservasiError):
    """The ledger answered with an error, or with something unreadable: always a bug."""


class JournalGap(ReservasiError):
    """A journal entry is missing, or does not continue the chain."""


class UnreadableEntry(JournalGap):
    """A journal entry that cannot be read, so that the following ones cannot be followed."""


class StaleRecorder(ReservasiError):
    """Another recorder has moved the recorded position first."""


class RemovalRefused(ReservasiError):
    """A program is not removed: people would lose what they have, or another process uses it."""


class RebuildRefused(ReservasiError):
    """The ledger is not rebuilt automatically: changes that only it has would be lost."""


def described(error: BaseException) -> str:
    """An exception as one line: its type, and its message if it has one."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
