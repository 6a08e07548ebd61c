"""An event loop whose time is a number and whose order is drawn: a run is a function of its seed.

When nothing is ready, time jumps to the next timer. Of the callbacks that are ready, any may be next. Tasks belong to
a host, the process that they would live in, so that a host can be killed. Nothing here waits for the machine: files,
sockets and threads do not exist.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import time
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")
STEPS_MAX = 400_000  # of one run; more means that something turns in place


class Stuck(Exception):
    """Nothing is ready, nothing will be, and the run has not ended; or it never ends."""


class Host:
    """A process of the simulated deployment; all tasks that were begun in it end when it is killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin a task in this host, and all that it begins."""
        context = contextvars.copy_context()
        context.run(HOST.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    async def kill(self) -> None:
        """End all at once: what is on its way arrives, nothing is sent any more, nobody says goodbye."""
        self.alive = False
        while pending := [task for task in self.tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.sleep(0)
        self.tasks.clear()


HOST: contextvars.ContextVar[Host | None] = contextvars.ContextVar("host", default=None)
_serials = itertools.count()


class _Task(asyncio.Task[Any]):
    """A task whose place in a set follows from when it was made, not from where it lies in memory."""

    _serial: int

    def __new__(cls, *_: Any, serial: int, **__: Any) -> "_Task":
        """With its number from the start: asyncio puts it into its own set before it is made."""
        task = super().__new__(cls)
        task._serial = serial
        return task

    def __init__(self, *of: Any, serial: int, **options: Any) -> None:
        super().__init__(*of, **options)

    def __hash__(self) -> int:
        return self._serial


class _Future(asyncio.Future[Any]):
    """The same for futures."""

    _serial: int = 0

    def __hash__(self) -> int:
        return self._serial


class _Handle(asyncio.Handle):
    """Without what asyncio keeps for debugging."""

    _source_traceback = None  # read when the callback fails

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: "VirtualLoop",
        context: contextvars.Context | None,
    ) -> None:
        self._callback, self._args, self._loop = callback, args, loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled, self._repr = False, None


class _Timer(asyncio.TimerHandle):
    """The same for later."""

    _source_traceback = None  # read when the callback fails

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: "VirtualLoop",
        context: contextvars.Context | None,
    ) -> None:
        self._callback, self._args, self._loop = callback, args, loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled, self._repr = False, None
        self._when, self._scheduled = when, False


class VirtualLoop(base_events.BaseEventLoop):
    """See the module."""

    _ready: deque[asyncio.Handle]

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.now_s = 0.0
        self.steps = 0
        self.failures: list[str] = []
        self._order = random.Random(f"order {seed}").random
        self._serial = itertools.count(1)
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap; handles compare too slowly
        self._new_tasks: list[asyncio.Task[Any]] = []
        self.set_exception_handler(self._note_failure)

    def time(self) -> float:
        """Seconds since the run began."""
        return self.now_s

    def call_soon(  # type: ignore[override]  # the loop that is overridden knows its callback's arguments
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Without the checks that asyncio makes each time."""
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """The same for later."""
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._serial), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def create_future(self) -> _Future:
        future = _Future(loop=self)
        future._serial = next(self._serial)
        return future

    def create_task(self, coro: Any, *, name: object = None, context: contextvars.Context | None = None) -> Any:
        serial = next(self._serial)
        task = _Task(coro, serial=serial, loop=self, name=f"task-{serial}", context=context)
        self._new_tasks.append(task)
        host = HOST.get() if context is None else context.get(HOST)
        if host is not None:
            host.tasks[task] = None
            task.add_done_callback(lambda done: host.tasks.pop(done, None))
        return task

    def close(self) -> None:
        """Also take the tasks out of asyncio's own set, where those of the next run have the same hashes."""
        for task in self._new_tasks:
            asyncio.tasks._unregister_task(task)
        self._new_tasks.clear()
        self._timers.clear()
        super().close()

    def _note_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        """One turn: the next callback, or the next moment."""
        ready, timers, drawn = self._ready, self._timers, self._order
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise Stuck("everybody waits, and for nothing")
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            ready.append(heapq.heappop(timers)[2])
        left = len(ready)
        self.steps += left
        if self.steps > STEPS_MAX:
            raise Stuck(f"{self.steps} steps, and no end")
        for _ in range(left):
            if len(ready) > 1:
                ready.rotate(-int(drawn() * len(ready)))
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is one thread."""


@contextmanager
def virtual_time(loop: VirtualLoop, epoch_s: float) -> Iterator[None]:
    """Let the process's clocks show the loop's time: what measures a delay measures the simulated one."""

    def monotonic() -> float:
        return loop.now_s

    def wall() -> float:
        return epoch_s + loop.now_s

    with (
        mock.patch.object(time, "monotonic", monotonic),
        mock.patch.object(time, "time", wall),
        mock.patch("reservasi.availability._loop_time_s", monotonic),
    ):
        yield


def run(loop: VirtualLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end, and leave nothing behind."""
    try:
        return loop.run_until_complete(work())
    finally:
        _end_all(loop)
        loop.close()


def _end_all(loop: VirtualLoop) -> None:
    for _ in range(100):
        left = sorted(asyncio.all_tasks(loop), key=hash)
        if not left:
            return
        for task in left:
            task.cancel()
        loop.steps = 0
        loop.run_until_complete(asyncio.wait(left, timeout=0.1))
    raise Stuck(f"tasks that do not end: {sorted(map(repr, asyncio.all_tasks(loop)))}")
