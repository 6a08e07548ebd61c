"""What is stored is not what was written, for a while: damaged values, and records that are an older copy.

Each is mended as it is in a deployment: by a rebuild from the records, by what stood there before, or by recording the
program anew from its ledger. One thing at a time, so that what mends it can be told from what does not.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from reservasi.ledger import keys
from tests.simulation import damage
from tests.simulation.damage import Damage
from tests.simulation.operators import Operator
from tests.simulation.processes import PROGRAM, Deployment
from tests.simulation.records import Copy
from tests.simulation.server import Server

DUMPS = 0.25  # how often the records are put back, where it could be a damaged value
REBUILDS = 0.15  # how often a value is mended by a rebuild that could be put back
MARGINS = (0, 0, 0, 3, 1000)  # recorded changes of which the journal still has the entries


class Mending:
    """Damages, and mends what it damaged."""

    def __init__(
        self,
        server: Server,
        deployment: Deployment,
        chance: random.Random,
        *,
        calm: asyncio.Event,
        note: Callable[[str, str, str], None],
        fence: Callable[[], Awaitable[None]],
    ) -> None:
        """`note` is told who, what and the kind of it; `fence` starts the ledger's server anew."""
        self._server = server
        self._deployment = deployment
        self._chance = chance
        self._note = note
        self._fence = fence
        self._operator = Operator(deployment, calm)
        self._dump: Copy | None = None
        self._damage: Damage | None = None  # that is not mended yet
        self._rebuilds = False  # how it is mended
        self._word = b""  # of the recorder, when the records were put back
        self.altered: list[str] = []  # damaged values that the ledger wrote, although it could not read them
        self.names: set[str] = set()  # what the damaged values were of

    async def run(self, pause: Callable[[float], Awaitable[bool]]) -> None:
        """Until `pause`, which waits so many seconds, says that it is over."""
        chance = self._chance
        while await pause(chance.uniform(0.1, 1.0)):
            dump, self._dump = self._dump, self._deployment.database.copy()
            if dump is not None and chance.random() < DUMPS:
                self._put_back(dump)
                self._dump = None  # of another history than the records that are made now
            elif not self._do_damage():
                continue
            await pause(chance.uniform(0.1, 1.0))
            await self.mend()

    async def mend(self) -> None:
        """What is not mended yet; called once more when everything else is well."""
        if self._deployment.database.lost is not None:
            self._keep_word()
            await self._operator.restore()
        elif self._damage is not None:
            await self._mend(self._damage)

    def _do_damage(self) -> bool:
        defect = damage.drawn(self._server, self._chance)
        if defect is None:
            return False
        defect.happen()
        self._damage = defect
        self._rebuilds = not defect.can_be_put_back or self._chance.random() < REBUILDS
        self._note("valkey", f"damages {defect.what}", "damaged")
        self.names |= defect.names
        return True

    async def _mend(self, defect: Damage) -> None:
        if not self._rebuilds:
            if not defect.is_left_alone():
                self.altered.append(defect.what)
            defect.put_back()
            await self._fence()
        elif await self._operator.rebuild():
            self._note("valkey", "is rebuilt", "rebuilt")
        else:
            return
        defect.end()
        self._damage = None

    def _keep_word(self) -> None:
        """A message that is seconds late may take the recorder's word back, by less than the margin that is kept."""
        position, word = self._server.recorded(PROGRAM), json.loads(self._word)
        if position is None or position < (word["epoch"], word["seq"]):
            self._server.execute([("HSET", keys.recorded(PROGRAM), keys.RECORDED_FIELD, self._word)])

    def _put_back(self, dump: Copy) -> None:
        """An older dump is restored; of what was recorded since, the journal has only its end."""
        database = self._deployment.database
        word = self._server.recorded(PROGRAM)
        if database.position is None or word is None or dump.position is None or dump.position.seq >= word[1]:
            return
        epoch, seq = word
        oldest = f"{epoch}-{max(0, seq - self._chance.choice(MARGINS))}"
        self._server.execute([("XTRIM", keys.journal(PROGRAM), "MINID", oldest)])
        (self._word,) = self._server.execute([("HGET", keys.recorded(PROGRAM), keys.RECORDED_FIELD)])
        database.put_back(dump)
        self._note("postgres", f"is put back to {dump.position.epoch}-{dump.position.seq}", "older dump")
