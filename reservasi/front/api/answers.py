"""Answers as values: complete ones, and those that come later and are settled by a callback."""

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
_WITHOUT_BODY = (int(HTTPStatus.NOT_MODIFIED), int(HTTPStatus.NO_CONTENT))
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
        """`head` is what `head` would return, where a handler has it already."""
        self.status = status
        self.headers = headers  # without those that every answer has
        self.body = body
        self.outcome = outcome  # the name of its problem type, or a word for the count of claims
        self.closes = closes  # whether nothing more can be read from the connection
        self._head = head

    @property
    def head(self) -> bytes:
        """Status line and headers that stay the same, without the end of the last line."""
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
        if self.status not in _WITHOUT_BODY:
            lines.append(f"\r\nContent-Length: {len(self.body)}")
        return "".join(lines).encode()


class Abandonable(Protocol):
    """What need not be done once nobody waits for it."""

    def abandon(self) -> None:
        """Nobody does."""


class Pending:
    """An answer that comes later: settled once, passed on to one callback.

    What settles it may be an error: the dispatcher turns it into the refusal that it means.
    """

    __slots__ = ("_hear", "_result", "work")

    def __init__(self) -> None:
        self._hear: Callable[[Answer | Exception], None] | None = None
        self._result: Answer | Exception | None = None
        self.work: Abandonable | None = None  # what is given up with the answer

    def settle(self, result: "Answer | Pending | Exception") -> None:
        """Give the answer; what comes after the first one is ignored."""
        if isinstance(result, Pending):
            self.work = result.work
            result.hear(self.settle)
        elif self._hear is not None:
            hear, self._hear, self.work = self._hear, None, None
            hear(result)
        elif self._result is None:
            self._result = result

    def resolve(self, make: "Callable[[Result], Answer | Pending]", value: Result) -> None:
        """Settle it with what `make` returns for a value, or raises."""
        try:
            answer = make(value)
        except Exception as error:
            self.settle(error)
        else:
            self.settle(answer)

    def hear(self, hear: Callable[[Answer | Exception], None]) -> None:
        """Call `hear` with the answer, at once where it is there."""
        if self._result is not None:
            hear(self._result)
        else:
            self._hear = hear

    def abandon(self) -> bool:
        """Give the answer up where that is possible; then nothing more is heard of it."""
        if self.work is None:
            return False
        self.work.abandon()
        self._hear = self.work = None
        return True

    def __await__(self) -> Generator[Any, None, Answer]:
        """Wait for it in a task; raises what it is settled with."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def hear(result: Answer | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Answer):
                future.set_result(result)
            else:
                future.set_exception(result)

        self.hear(hear)
        return future.__await__()


Reply: TypeAlias = Answer | Pending


class Asked(Pending):
    """What is said to the ledger's answer to a command."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Any], Reply]) -> None:
        """`make` turns what is told into the answer: a pending one, too."""
        self._hear = self._result = self.work = None
        self._make = make

    def tell(self, result: Any) -> None:
        """What the ledger answered, or why it did not."""
        if isinstance(result, ReservasiError):
            self.settle(result)
            return
        try:
            answer = self._make(result)
        except Exception as error:
            self.settle(error)
            return
        hear = self._hear
        if hear is None or isinstance(answer, Pending):
            self.settle(answer)
        else:
            self._hear = self.work = None
            hear(answer)


def ask(enqueue: Callable[[Resolve], Submitted | None], make: Callable[[LedgerAnswer], Reply]) -> Pending:
    """What `make` says to the ledger's answer to a command, handed over by `enqueue`.

    Raises:
        Overloaded: the command was not taken.
    """
    asked = Asked(make)
    asked.work = enqueue(asked.tell)
    return asked


_tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them only weakly


def later(trace: Trace, work: Coroutine[Any, Any, Reply]) -> Pending:
    """The answer of a task; log lines that it writes name the request."""
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
    """A handler that waits for several things in turn, as one that the dispatcher takes."""

    @functools.wraps(handler)
    def begin(front: Any, request: Any) -> Pending:
        return later(request.trace, handler(front, request))

    return begin


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """JSON for one caller, which nobody keeps."""
    return Answer(status, {"Content-Type": JSON, "Cache-Control": NO_STORE, **(headers or {})}, body)
