"""Claims: starts the variants, measures them interleaved, and asks each one's store whether it holds what was said."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace

from loadtest.bench import claims
from loadtest.bench.client import Load
from loadtest.bench.ground import Ground
from loadtest.bench.measuring import START_TIMEOUT_S, Meter, Plan, Subject, WrongResult, check_size
from loadtest.bench.variants import COMPARED, Bare, Ours, OursRecorded, Variant
from loadtest.stage.ports import wait_listening

PROBES = 8  # claims that show how large our answer is


class People:
    """Everybody claims once in a whole run."""

    def __init__(self) -> None:
        self._next = 0

    def requests(self, count: int, quotas: Sequence[str]) -> list[bytes]:
        """The claims of so many further people."""
        first = self._next
        self._next += count
        return claims.requests(first, count, quotas)


class Bench:
    """Our own service, which every suite measures, and the rivals while their suite runs."""

    def __init__(self, ground: Ground, plan: Plan, stack: AsyncExitStack) -> None:
        self.ground = ground
        self.people = People()
        self.meter = Meter(plan)
        self.ours = Ours(ground)
        self._stack = stack
        self._claimed: dict[str, int] = {}  # in the whole run, warm-up included
        self.answer_bytes = 0

    async def start(self) -> None:
        """Start our own service, and see how large its answer to a claim is."""
        await _started(self.ours, self._stack)
        await self.meter.measure(self._subject(Ours, self.ours), PROBES)

    @asynccontextmanager
    async def compared(self, kinds: Sequence[type[Variant]]) -> AsyncIterator[tuple[Subject, list[Subject]]]:
        """The bare handler and these variants, as long as they run."""
        ground = replace(self.ground, answer_bytes=self.answer_bytes)
        async with AsyncExitStack() as stack:
            bare = Bare(ground)
            await _started(bare, stack)
            subjects = [self._subject(kind, await self._variant(kind, ground, stack)) for kind in kinds]
            yield self._subject(Bare, bare), subjects

    async def _variant(self, kind: type[Variant], ground: Ground, stack: AsyncExitStack) -> Variant:
        if issubclass(kind, Ours):
            return self.ours
        variant = kind(ground)
        await _started(variant, stack)
        return variant

    def _subject(self, kind: type[Variant], variant: Variant) -> Subject:
        async def check(load: Load) -> None:
            await self._check(variant, load)

        return Subject(
            name=kind.name,
            port=variant.port,
            roots={**self.ground.store_pids, **variant.pids},
            requests=lambda count: self.people.requests(count, self.ground.quotas),
            settle=variant.settle,
            check=check,
            during=self.ours.recorder_still if kind is not OursRecorded else nullcontext,
        )

    async def _check(self, variant: Variant, load: Load) -> None:
        """Every answer is of the common size, and the store holds exactly as many claims."""
        name = variant.name
        self.answer_bytes = self.answer_bytes or max(load.answer_bytes)
        check_size(name, load, self.answer_bytes)
        self._claimed[name] = self._claimed.get(name, 0) + load.claimed
        held = await variant.held()
        if held is not None and held != self._claimed[name]:
            raise WrongResult(f"{name} answered 201 to {self._claimed[name]} claims and holds {held}")


async def _started(variant: Variant, stack: AsyncExitStack) -> None:
    stack.push_async_callback(variant.stop)
    await variant.start()
    await wait_listening(variant.port, START_TIMEOUT_S)


def variants_named(names: Sequence[str]) -> list[type[Variant]]:
    """These variants in the order of a round, always with our own; all when none is named."""
    return [kind for kind in COMPARED if kind is Ours or kind.name in names or not names]
