"""Every Redis key, and nothing else. All keys of a program share its hash tag, so that each command is atomic.

The order of `program_keys` is the order of `KEYS` in `lua/shared.lua`; a test compares the two.
"""


def meta(program: str) -> str:
    """Hash: epoch, seq, chain, run_id (after the mark of the stored form), numbers (of quotas), fence, loading."""
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
    """Sorted set: hold deadlines and returning places, ordered by their text (quota, then time)."""
    return f"{{{program}}}:timers"


def tombstones(program: str) -> str:
    """Sorted set: ended reservation by the time of its end; the sweeper deletes it a day later."""
    return f"{{{program}}}:tombstones"


def journal(program: str) -> str:
    """Stream: one entry per batch, its id is `<epoch>-<last seq>`."""
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


RECORDED_FIELD = "position"  # field of that hash: JSON, as it is published


def dead_letters(program: str) -> str:
    """Set: reservations with a change that could not be recorded, so that no front reports them as recorded."""
    return f"{{{program}}}:dead"


def queue_delays(program: str) -> str:
    """Hash: front -> delay of its claims in ms, and time of the report: a hint for the admission's rate."""
    return f"{{{program}}}:queue-delays"


def recorded_channel(program: str) -> str:
    """Publish/subscribe channel: the recorder publishes its position after each commit."""
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
