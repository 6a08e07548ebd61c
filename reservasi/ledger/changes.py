"""What a run of journal entries touches: to compare two states that were read at different moments. Pure."""

from collections.abc import Sequence

from reservasi.ledger.entries import readable

CONFIRMED_BEFORE = ("k", "t")  # how a confirmed reservation ends: cancelled, retired


class Changes:
    """All that entries speak of; those beyond a seq are reckoned as well, so that counts can be taken back to it."""

    def __init__(self) -> None:
        self.reservations: set[str] = set()
        self.persons: set[str] = set()
        self.timers: set[str] = set()  # of places on their way back, as the ledger calls them
        self.later_quotas: set[str] = set()  # that were set or retired beyond the seq
        self.later_openings: set[str] = set()
        self.later_returns: set[str] = set()  # quotas to which places came back beyond it
        self._later: dict[str, list[int]] = {}  # held, confirmed, returning

    def follow(self, first_seq: int, payload: bytes, *, until: int) -> None:
        """Follow one entry; `until` is the seq that counts are taken back to."""
        for seq, event in readable(first_seq, payload):
            self._touch(seq, event)
            if seq > until:
                self._reckon(event)

    def reckon_back(self, quota: str, counts: Sequence[int]) -> tuple[int, int, int]:
        """Held, confirmed and returning places at the seq, from those after all entries."""
        later = self._later.get(quota, (0, 0, 0))
        held, confirmed, returning = (count - step for count, step in zip(counts, later, strict=True))
        return held, confirmed, returning

    def _touch(self, seq: int, event: list[object]) -> None:
        match event:
            case ["h", str(id_), _, _, _, _, list(persons)]:
                self.reservations.add(id_)
                self.persons.update(map(str, persons))
            case ["c", str(id_), *_]:
                self.reservations.add(id_)
            case ["e", _, str(id_), _, places, *_]:
                self.reservations.add(id_)
                self.timers.add(f"+{seq}:{places}")

    def _reckon(self, event: list[object]) -> None:
        match event:
            case ["h", _, str(quota), _, _, _, list(persons)]:
                self._count(quota, held=len(persons))
            case ["c", _, str(quota), int(places), _]:
                self._count(quota, held=-places, confirmed=places)
            case ["e", state, _, str(quota), int(places), returns_at, *_]:
                before = {"confirmed" if state in CONFIRMED_BEFORE else "held": -places}
                self._count(quota, **before, returning=places if returns_at else 0)
            case ["r", str(quota), int(places)]:
                self._count(quota, returning=-places)
                self.later_returns.add(quota)
            case ["q" | "t", str(quota), *_]:
                self.later_quotas.add(quota)
            case ["o" | "u", str(opening), *_]:
                self.later_openings.add(opening)

    def _count(self, quota: str, held: int = 0, confirmed: int = 0, returning: int = 0) -> None:
        later = self._later.setdefault(quota, [0, 0, 0])
        for at, step in enumerate((held, confirmed, returning)):
            later[at] += step
