"""What happens to the primary while people claim, confirm and cancel, and what an answer waits for meanwhile."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtest.ha.gates import Gates
from loadtest.ha.scene import Scene, answered

MEANWHILE = 12  # claims answered between a fault's first half and its second


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One row of the table."""

    name: str
    strike: Callable[[Scene], Awaitable[None]]
    safe_from: int = 1  # replicas that must acknowledge for nothing promised to be lost
    by_gates: bool = False  # no other network can do it


async def _kill(scene: Scene) -> None:
    await scene.servers.kill(scene.servers.first)
    await _came_back(scene)


async def _lag_and_kill(scene: Scene) -> None:
    gates, first = scene.servers.network, scene.servers.first
    assert isinstance(gates, Gates), "a kernel still sends what a killed server wrote"
    gates.hold_back(first)
    scene.some_stay()
    await answered(scene.staying, MEANWHILE)
    await scene.servers.kill(first)
    await gates.forget(first)
    scene.rejoin()
    await _came_back(scene)


async def _came_back(scene: Scene) -> None:
    """The dead one is started again, believes to be the primary, and is made a replica.

    Not before the sentinels name the new one: the worker could record what the old one alone has.
    """
    await scene.servers.until_promoted()
    await scene.servers.until_announced()
    await scene.servers.start_ledger(scene.servers.first)
    await scene.servers.until_replica(scene.servers.first)


async def _part(scene: Scene, staying: int) -> None:
    """Some people, their front and replicas stay with the first primary; records, worker and sentinels do not."""
    servers = scene.servers
    servers.part(*servers.replicas[:staying])
    scene.some_stay()
    await servers.until_promoted()
    await answered(scene.crowd, MEANWHILE)
    scene.rejoin()
    await servers.until_replica(servers.first)


async def _part_alone(scene: Scene) -> None:
    await _part(scene, 0)


async def _part_with_replica(scene: Scene) -> None:
    await _part(scene, 1)


KILL = Fault(name="kill -9 of the primary", strike=_kill)
LAG_AND_KILL = Fault(name="kill -9 behind a slow link", strike=_lag_and_kill, by_gates=True)
PART_ALONE = Fault(name="partition, the old primary alone", strike=_part_alone)
PART_WITH_REPLICA = Fault(name="partition, a replica with the old primary", strike=_part_with_replica, safe_from=2)
FAULTS = (KILL, LAG_AND_KILL, PART_ALONE, PART_WITH_REPLICA)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What an answer waits for before it is given."""

    name: str
    replicas: int = 0
    aof: str = "off"

    @property
    def settings(self) -> dict[str, object]:
        """As the service is given them; a replica tells of its file once a second."""
        timeout_ms = 1500 if self.aof == "replicas" else 300
        return {"replicas_min_ack": self.replicas, "aof_ack": self.aof, "replicas_ack_timeout_ms": timeout_ms}


NOBODY = Mode(name="nobody (default)")
ONE = Mode(name="1 of 2 replicas", replicas=1)
ALL = Mode(name="both replicas", replicas=2)
SYNCED = Mode(name="both replicas, synced", replicas=2, aof="replicas")
MODES = (NOBODY, ONE, ALL, SYNCED)
