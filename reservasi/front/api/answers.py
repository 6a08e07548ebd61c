"""Answers as values: complete ones, and pending ones that are settled by a callback."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Generator, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias, TypeVar

import structlog
from aiohttp import hdrs

from reservasi.errors import ReservasiError
from reservasi.front.api.tracing import Trace
from reservasi.ledger.submitted import Resolve, Submitted
from reservasi.model import Answer as LedgerAnswer

NO_STORE = "no-store"
JSON = "application/json"
STATIC_HEADERS = {
    "Server": "reservasi",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
WITHOUT_BODY = (int(HTTPStatus.NOT_MODIFIED), int(HTTPStatus.NO_CONTENT))
_STATIC_LINES = "".join(f"\r\n{name}: {value}" for name, value in STATIC_HEADERS.items())
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}

Result = TypeVar("Result")


class Answer:
    """One complete answer; both transports send the same."""

    __slots__ = ("_head", "body", "closes", "headers", "outcome", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        outcome: str = "",
        closes: bool = False,
        head: bytes | None = None,
    ) -> None:
        """`head` is the value of the property `head`, if a handler already has it."""
        self.status = status
        self.headers = headers  # without those that every answer has
        self.body = body
        self.outcome = outcome  # the name of its problem type, or a word for counting claims
        self.closes = closes  # whether the connection ends after it
        self._head = head

    @property
    def head(self) -> bytes:
        """Status line and constant headers, without the last line end."""
        head = self._head
        if head is None:
            head = self._head = self._encode_head()
        return head

    def _encode_head(self) -> bytes:
        headers = self.headers
        lines = [_STATUS_LINES[self.status]]
        if hdrs.CONTENT_SECURITY_POLICY in headers:
            headers = {**STATIC_HEADERS, **headers}
        else:
            lines.append(_STATIC_LINES)
        lines += [f"\r\n{name}: {value}" for name, value in headers.items()]
        if self.status not in WITHOUT_BODY:
            lines.append(f"\r\nContent-Length: {len(self.body)}")
        return "".join(lines).encode()


class Abandonable(Protocol):
    """Work that can be abandoned when nobody waits for its result."""

    def abandon(self) -> None:
        """Stop the work, if that is still possible."""


class Pending:
    """An answer that comes later: settled once, passed to one callback.

    It may be settled with an exception, which the dispatcher turns into a refusal.
    """

    __slots__ = ("_callback", "_result", "work")

    def __init__(self) -> None:
        self._callback: Callable[[Answer | Exception], None] | None = None
        self._result: Answer | Exception | None = None
        self.work: Abandonable | None = None  # abandoned together with the answer

    def settle(self, result: "Answer | Pending | Exception") -> None:
        """Give the answer; later calls are ignored."""
        if isinstance(result, Pending):
            self.work = result.work
            result.then(self.settle)
        elif self._callback is not None:
            callback, self._callback, self.work = self._callback, None, None
            callback(result)
        elif self._result is None:
            self._result = result

    def resolve(self, make: "Callable[[Result], Answer | Pending]", value: Result) -> None:
        """Settle it with what `make` returns or raises for a value."""
        try:
            answer = make(value)
        except Exception as error:
            self.settle(error)
        else:
            self.settle(answer)

    def then(self, callback: Callable[[Answer | Exception], None]) -> None:
        """Call `callback` with the answer, at once if it is there."""
        if self._result is not None:
            callback(self._result)
        else:
            self._callback = callback

    def abandon(self) -> bool:
        """Abandon the answer, if possible; then the callback is not called."""
        if self.work is None:
            return False
        self.work.abandon()
        self._callback = self.work = None
        return True

    def __await__(self) -> Generator[Any, None, Answer]:
        """Wait for it in a task; raises the exception with which it is settled."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def set_future(result: Answer | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Answer):
                future.set_result(result)
            else:
                future.set_exception(result)

        self.then(set_future)
        return future.__await__()


Reply: TypeAlias = Answer | Pending


class PendingLedgerAnswer(Pending):
    """The pending answer to a ledger command."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Any], Reply]) -> None:
        """`make` turns the ledger's answer into an HTTP answer, which may be pending too."""
        self._callback = self._result = self.work = None
        self._make = make

    def take(self, result: Any) -> None:
        """Take the ledger's answer, or the reason why there is none."""
        if isinstance(result, ReservasiError):
            self.settle(result)
            return
        try:
            answer = self._make(result)
        except Exception as error:
            self.settle(error)
            return
        callback = self._callback
        if callback is None or isinstance(answer, Pending):
            self.settle(answer)
        else:
            self._callback = self.work = None
            callback(answer)


def ask(enqueue: Callable[[Resolve], Submitted | None], make: Callable[[LedgerAnswer], Reply]) -> Pending:
    """Submit a command with `enqueue`; the answer is what `make` returns for the ledger's answer.

    Raises:
        Overloaded: the command was not accepted.
    """
    pending = PendingLedgerAnswer(make)
    pending.work = enqueue(pending.take)
    return pending


_tasks: set[asyncio.Task[None]] = set()  # the loop holds only weak references


def later(trace: Trace, work: Coroutine[Any, Any, Reply]) -> Pending:
    """The answer of a task, whose log lines name the request."""
    pending = Pending()

    async def run() -> None:
        try:
            answer = await work
            while isinstance(answer, Pending):
                answer = await answer
        except Exception as error:
            pending.settle(error)
        else:
            pending.settle(answer)

    context = contextvars.copy_context()
    context.run(structlog.contextvars.bind_contextvars, **trace.fields)
    task = asyncio.get_running_loop().create_task(run(), context=context)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return pending


def in_task(handler: "Callable[[Any, Any], Coroutine[Any, Any, Reply]]") -> "Callable[[Any, Any], Pending]":
    """Turn a coroutine function that awaits several things into a handler for the dispatcher."""

    @functools.wraps(handler)
    def begin(front: Any, request: Any) -> Pending:
        return later(request.trace, handler(front, request))

    return begin


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """JSON for one caller, not cacheable."""
    return Answer(status, {"Content-Type": JSON, "Cache-Control": NO_STORE, **(headers or {})}, body)
