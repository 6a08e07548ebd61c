"""Every Redis key, and nothing else. All keys of a program share its hash tag, so that each command is atomic.

Order of `program_keys` is the order of `KEYS` in `lua/shared.lua`; a test holds one against the other.
"""


def meta(program: str) -> str:
    """Hash: epoch, seq, chain, run_id (behind the stored form's mark), numbers (given to quotas), fence, loading."""
    return f"{{{program}}}:meta"


def quotas(program: str) -> str:
    """Hash: quota id -> packed limits and counts, read and written by every claim."""
    return f"{{{program}}}:quotas"


def facts(program: str) -> str:
    """Hash: quota id -> packed office, service, channel and time, read by snapshots only."""
    return f"{{{program}}}:facts"


def reservations(program: str) -> str:
    """Hash: reservation id -> packed record, live ones and tombstones."""
    return f"{{{program}}}:reservations"


def persons(program: str) -> str:
    """Hash: person -> id of their live reservation."""
    return f"{{{program}}}:persons"


def due(program: str) -> str:
    """Sorted set: quota id by the time of its earliest timer."""
    return f"{{{program}}}:due"


def timers(program: str) -> str:
    """Sorted set: hold deadlines and places on their way back, by quota and time in the order of their texts."""
    return f"{{{program}}}:timers"


def tombstones(program: str) -> str:
    """Sorted set: ended reservation by the time it ended; the sweeper forgets it a day later."""
    return f"{{{program}}}:tombstones"


def journal(program: str) -> str:
    """Stream: one entry a batch, its id is `<epoch>-<last seq>`."""
    return f"{{{program}}}:journal"


def names(program: str) -> str:
    """Hash: quota's number -> quota id; reservations and timers name their quota by its number."""
    return f"{{{program}}}:names"


def openings(program: str) -> str:
    """Hash: opening id -> packed record."""
    return f"{{{program}}}:openings"


def joined(program: str) -> str:
    """Lists, two an opening: ":", its id, ":" and before or late follow. The people who joined its waiting room."""
    return f"{{{program}}}:joined"


def recorded(program: str) -> str:
    """Hash: the recorded position with its epochs, written by the recorder after its commit."""
    return f"{{{program}}}:recorded"


RECORDED_FIELD = "position"  # of that hash: JSON, as it is published


def dead_letters(program: str) -> str:
    """Set: reservations with a change that could not be recorded, so that no front calls them recorded."""
    return f"{{{program}}}:dead"


def queue_delays(program: str) -> str:
    """Hash: front -> how long claims wait in it, ms, and when that was: a hint for the admission's rate."""
    return f"{{{program}}}:queue-delays"


def recorded_channel(program: str) -> str:
    """Publish/subscribe channel: the recorder says its position after each commit."""
    return f"{{{program}}}:recorded-channel"


def program_keys(program: str) -> tuple[str, ...]:
    """The keys that every ledger function receives, in the order of `lua/shared.lua`."""
    return (
        meta(program),
        quotas(program),
        facts(program),
        reservations(program),
        persons(program),
        due(program),
        timers(program),
        tombstones(program),
        journal(program),
        names(program),
        openings(program),
        joined(program),
    )
