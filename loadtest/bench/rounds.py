"""Claims: starts the variants, measures them interleaved, and asks each one's store whether it holds what was said."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from loadtest.bench import claims
from loadtest.bench.client import Load
from loadtest.bench.ground import Ground
from loadtest.bench.measuring import START_TIMEOUT_S, Meter, Plan, Subject, WrongResult, check_size
from loadtest.bench.variants import COMPARED, STRONG, Bare, Ours, OursRecorded, Variant
from loadtest.stage.ports import wait_listening

PROBES = 8  # claims that show how large our answer is
FSYNC_MS = 3


@dataclass(frozen=True)
class Arrangement:
    """What is compared, and on what it stands."""

    variants: tuple[type[Variant], ...] = COMPARED
    processes: int = 1  # of each front
    fsync_ms: int = 0  # added to each fsync of the stores

    @property
    def name(self) -> str:
        fronts = "1 front" if self.processes == 1 else f"{self.processes} fronts"
        return f"{fronts}, fsync {self.fsync_ms} ms longer" if self.fsync_ms else fronts


ONE_FRONT = Arrangement()
JUDGED = Arrangement(STRONG, processes=2, fsync_ms=FSYNC_MS)
SEVERAL_FRONTS = (Arrangement(STRONG, processes=2), Arrangement(STRONG, processes=4), JUDGED)


class People:
    """Everybody claims once in a whole run."""

    def __init__(self) -> None:
        self._next = 0

    def requests(self, count: int, quotas: Sequence[str]) -> list[bytes]:
        """The claims of so many further people."""
        self._next += count
        return claims.requests(self._next - count, count, quotas)


class Bench:
    """Our own service, and the rivals while they are compared with it."""

    def __init__(self, ground: Ground, plan: Plan) -> None:
        self.ground = ground
        self.people = People()
        self.meter = Meter(plan)
        self.ours = Ours(ground)
        self._claimed: dict[str, int] = {}  # in the whole run, warm-up included
        self.answer_bytes = 0

    async def start(self, stack: AsyncExitStack) -> None:
        """Start our own service, and see how large its answer to a claim is."""
        await started(self.ours, stack)
        await self.meter.measure(self._subject(Ours, self.ours), PROBES)

    @asynccontextmanager
    async def compared(self, kinds: Sequence[type[Variant]]) -> AsyncIterator[tuple[Subject, list[Subject]]]:
        """The bare handler and these variants, as long as they run."""
        ground = replace(self.ground, answer_bytes=self.answer_bytes)
        async with AsyncExitStack() as stack:
            bare = Bare(ground)
            await started(bare, stack)
            subjects = []
            for kind in kinds:
                variant: Variant = self.ours
                if not issubclass(kind, Ours):
                    variant = kind(ground)
                    await started(variant, stack)
                subjects.append(self._subject(kind, variant))
            yield self._subject(Bare, bare), subjects

    def _subject(self, kind: type[Variant], variant: Variant) -> Subject:
        async def check(load: Load) -> None:
            """Every answer is of the common size, and the store holds exactly as many claims."""
            self.answer_bytes = self.answer_bytes or max(load.answer_bytes)
            check_size(kind.name, load, self.answer_bytes)
            claimed = self._claimed[variant.name] = self._claimed.get(variant.name, 0) + load.claimed
            held = await variant.held()
            if held is not None and held != claimed:
                raise WrongResult(f"{kind.name} answered 201 to {claimed} claims and holds {held}")

        return Subject(
            name=kind.name,
            port=variant.port,
            roots={**self.ground.store_pids, **variant.pids},
            requests=lambda count: self.people.requests(count, self.ground.quotas),
            settle=variant.settle,
            check=check,
            during=self.ours.recorder_still if kind is not OursRecorded else nullcontext,
        )


async def started(variant: Variant, stack: AsyncExitStack) -> None:
    stack.push_async_callback(variant.stop)
    await variant.start()
    await wait_listening(variant.port, START_TIMEOUT_S)
