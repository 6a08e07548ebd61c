"""`reservasi verify`: checks from public data that the service followed its rules."""

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from reservasi.cli.invocation import settings_of
from reservasi.cli.output import EXIT_FAILED, EXIT_USAGE, AsJson, fail, out, print_json, show, show_rows
from reservasi.errors import ReservasiError
from reservasi.sealing import Sealing, load_key_ring
from reservasi.text_files import NotUtf8, without_byte_order_mark
from reservasi.tidying import tidy_ticket
from reservasi.waiting_room.tickets import Tickets
from reservasi.waiting_room.verification import (
    Claimed,
    Problem,
    PublicDraw,
    Verdict,
    read_public_draw,
    verify_draw,
)

TIMEOUT_S = 10.0
DOCUMENT_BYTES_MAX = 64 << 10
ROWS_MAX = 20
OPENING_ID = re.compile(r"[a-z0-9-]{2,64}")
NOT_CHECKED = {Problem.TICKET_MALFORMED, Problem.TICKET_FOR_OTHER_OPENING}  # nothing is wrong with the draw
COMMITMENT = re.compile(r"[0-9a-fA-F]{64}")

app = typer.Typer(help="Verify draws from public data.", no_args_is_help=True)


@app.command("draw")
def draw(
    url: Annotated[str, typer.Option(help="the service, such as https://antrean.example.go.id")],
    opening: Annotated[str, typer.Option(help="an opening's id")],
    ticket: Annotated[str | None, typer.Option(help="a ticket whose number is computed")] = None,
    number: Annotated[int | None, typer.Option(min=0, help="the number that --ticket should have")] = None,
    tickets: Annotated[
        Path | None, typer.Option(help='a file with one JSON object {"ticket","number"?} per line', show_default=False)
    ] = None,
    commitment: Annotated[str | None, typer.Option(help="the commitment that was noted before the opening")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="directory with the key ring: also checks the signatures", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute an opening's draw again; exit 1 when its seed, a ticket or a number does not agree."""

    def misused(message: str) -> NoReturn:
        fail(message, as_json=as_json)
        raise typer.Exit(EXIT_USAGE)

    url, opening = tidy_ticket(url), tidy_ticket(opening)  # as they are pasted
    ticket, commitment = (text and tidy_ticket(text) for text in (ticket, commitment))
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        misused(f"{url} is not an address that begins with http:// or https://")
    if not OPENING_ID.fullmatch(opening):
        misused(f"{opening} is not an opening's id: small letters, digits and dashes")
    if commitment is not None and not COMMITMENT.fullmatch(commitment):
        misused("a commitment has 64 hex digits")
    if number is not None and ticket is None:
        misused("--number belongs to --ticket; in a file each line has its own")
    try:
        reader = None if data_dir is None else _reader(data_dir)
        claimed = [] if ticket is None else [Claimed(ticket=ticket, number=number)]
        if tickets is not None:
            claimed += _read_tickets(tickets)
        public = read_public_draw(_fetch(f"{url.rstrip('/')}/v1/openings/{opening}/queue"))
    except ReservasiError as error:
        fail(str(error), as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from error
    verdict = verify_draw(public, opening, claimed, noted_commitment=commitment or "", reader=reader)
    _report(opening, public, verdict, as_json=as_json)
    if not verdict.agrees:
        raise typer.Exit(EXIT_FAILED)


class _NotFetched(ReservasiError):
    """The service did not return the document."""


class _FileInvalid(ReservasiError):
    """A file of tickets cannot be read."""


def _fetch(url: str) -> object:
    """Fetch a JSON document of limited size."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the scheme is checked
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            body = response.read(DOCUMENT_BYTES_MAX + 1)
        if len(body) > DOCUMENT_BYTES_MAX:
            raise _NotFetched(f"{url} answers with more than {DOCUMENT_BYTES_MAX >> 10} KiB")
        return msgspec.json.decode(body)
    except urllib.error.HTTPError as error:
        with error:
            raise _NotFetched(f"{url} answers {error.code}{_title(error)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _NotFetched(f"{url} cannot be read: {getattr(error, 'reason', error)}") from error


def _title(error: urllib.error.HTTPError) -> str:
    """The title of a problem answer, if there is one."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        problem = msgspec.json.decode(error.read(DOCUMENT_BYTES_MAX))
        if isinstance(problem, dict) and isinstance(problem.get("title"), str):
            return f": {problem['title']}"
    return ""


def _read_tickets(path: Path) -> Iterator[Claimed]:
    decoder = msgspec.json.Decoder(Claimed)
    try:
        with path.open("rb") as file:
            for line_number, line in enumerate(file, 1):
                text = _first(line, path) if line_number == 1 else line
                if text.strip():
                    yield _decode(decoder, text, f"{path}, line {line_number}")
    except OSError as error:
        raise _FileInvalid(f"{path} cannot be read: {error.strerror}") from error


def _first(line: bytes, path: Path) -> bytes:
    try:
        return without_byte_order_mark(line)
    except NotUtf8 as error:
        raise _FileInvalid(f"{path} {error}") from error


def _decode(decoder: msgspec.json.Decoder[Claimed], line: bytes, place: str) -> Claimed:
    try:
        claimed = decoder.decode(line)
    except ValueError as error:  # invalid JSON, members or UTF-8
        raise _FileInvalid(f'{place} is not {{"ticket","number"?}}: {error}') from error
    return msgspec.structs.replace(claimed, ticket=tidy_ticket(claimed.ticket))


def _reader(data_dir: Path) -> Tickets:
    path = settings_of(data_dir=data_dir).secrets_path
    return Tickets(Sealing(load_key_ring(path, create=False)).rotating_keys("ticket"))


def _with_tickets(count: int) -> str:
    """How many tickets were checked as well, as the end of a sentence."""
    if not count:
        return ""
    return ", and the number of 1 ticket with it" if count == 1 else f", and the numbers of {count} tickets with it"


def _report(opening: str, public: PublicDraw, verdict: Verdict, *, as_json: bool) -> None:
    facts = {"opening": opening, **msgspec.structs.asdict(public)}
    if as_json:
        findings, numbers = verdict.findings, verdict.numbers
        print_json({"ok": verdict.agrees, **facts, "findings": findings, "tickets": numbers})
        return
    show(facts, as_json=False)
    if verdict.numbers:
        show_rows([msgspec.structs.asdict(each) for each in verdict.numbers[:ROWS_MAX]], as_json=False)
    for finding in verdict.findings[:ROWS_MAX]:
        place = f"ticket {finding.ticket}: " if finding.ticket else ""
        fail(f"{place}{finding.said}", as_json=False)
    count = len(verdict.findings)
    if verdict.agrees:
        out.print(f"[green]the draw agrees[/]{_with_tickets(len(verdict.numbers))}")
    elif [each.problem for each in verdict.findings] == [Problem.NOT_REVEALED]:
        out.print("[yellow]the draw cannot be checked before the opening[/]")
    elif {each.problem for each in verdict.findings} <= NOT_CHECKED:
        what = "1 ticket was" if count == 1 else f"{count} tickets were"
        out.print(f"[yellow]the draw itself agrees, but {what} not checked[/]{_with_tickets(len(verdict.numbers))}")
    else:
        out.print(f"[bold red]the draw does not agree[/]: {count} {'finding' if count == 1 else 'findings'}")
