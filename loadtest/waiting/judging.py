"""What a run must have kept, each with what was measured; the order of the draw is read from the journal itself."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from loadtest.checker.check import check, show
from loadtest.checker.evidence import read_database
from loadtest.stage.people import person
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Service
from loadtest.stage.verdicts import Verdict
from loadtest.waiting.crowd import PLACED, SOLD_OUT, Crowd, Visitor
from loadtest.waiting.draw import claims_of
from loadtest.waiting.scene import Scene
from reservasi.events import Held, JournalEntry, OpeningSet
from reservasi.model import Position
from reservasi.waiting_room.verification import Claimed

MISTAKEN_MAX = 10_000  # one in so many may be taken for somebody who joined before
ERROR_CHARS = 200


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """One place that was given, and where the mark stood in the journal before it."""

    seq: int
    persons: tuple[str, ...]
    mark: int  # -1 before the draw


def holds_of(journal: Iterable[JournalEntry], opening: str) -> Iterator[Hold]:
    mark = -1
    for entry in journal:
        for event in entry.events:
            if isinstance(event, OpeningSet) and event.opening.id == opening:
                mark = event.opening.admitted_through if event.opening.drawn else -1
            elif isinstance(event, Held):
                yield Hold(seq=event.seq, persons=event.persons, mark=mark)


def order_violations(holds: Iterable[Hold], numbers: Mapping[str, int]) -> list[str]:
    """People who were let through too early; `numbers` are by person as the journal names them."""
    violations = []
    for hold in holds:
        best = min((numbers[person] for person in hold.persons if person in numbers), default=None)
        if best is None:
            violations.append(f"seq {hold.seq}: held by somebody who never joined")
        elif best > hold.mark:
            violations.append(f"seq {hold.seq}: number {best} has a place, and the mark stood at {hold.mark}")
    return violations


async def judge(service: Service, scene: Scene, crowd: Crowd, places: int) -> list[Verdict]:
    """Every promise beside what was seen, and the times, which are not judged."""
    findings = await check(service.redis_url, service.postgres_dsn, crowd.history, [PROGRAM])
    show(findings)
    (finding,) = findings
    database = await read_database(service.postgres_dsn, PROGRAM, Position(epoch=0, seq=0))
    people, visitors = crowd.plan.people, crowd.visitors
    joined_ones = [visitor for visitor in visitors if visitor.ticket]
    numbers = {scene.person(person(v.person, crowd.plan.seed).nik): v.number for v in joined_ones}
    holds = list(holds_of(database.journal, scene.opening))
    out_of_order = order_violations(holds, numbers)
    tickets = [Claimed(ticket=visitor.ticket, number=visitor.number) for visitor in joined_ones]
    draw = await asyncio.to_thread(_verify_by_command, service, scene, tickets)
    since_opening_ms = [v.answered_ms - max(crowd.opens_at_ms, v.came_ms) for v in visitors if v.outcome]
    since_admitted_ms = [v.answered_ms - v.admitted_ms for v in visitors if v.admitted_ms]
    outcomes = Counter(visitor.outcome or "nothing definite" for visitor in visitors)
    wanted = min(places, people)
    joined, before = int(crowd.board.queue.get("joined", 0)), sum("n" not in claims_of(v.ticket) for v in joined_ones)
    several = sum(len(visitor.tickets) > 1 for visitor in visitors)
    strange = crowd.surprises + crowd.board.odd
    return [
        Verdict("joins a second before the opening", f"{len(crowd.joins_ms) / crowd.joined_s:,.0f}"),
        Verdict("a join, ms", quantiles(crowd.joins_ms)),
        Verdict("from the opening to a definite answer, ms", quantiles(since_opening_ms)),
        Verdict("from being admitted to it, ms", quantiles(since_admitted_ms)),
        Verdict("from the last place to everybody knowing, ms", _until_all_know(visitors)),
        Verdict("requests for the queue", ", ".join(f"{n} x {what}" for what, n in crowd.board.polls.items())),
        Verdict(
            "everybody knows",
            ", ".join(f"{n} {what}" for what, n in outcomes.items()),
            f"all {people}",
            set(outcomes) <= {PLACED, SOLD_OUT},
        ),
        Verdict(
            "places",
            f"{finding.confirmed} confirmed, {finding.held} held, {outcomes[PLACED]} answered",
            f"{wanted} confirmed",
            (finding.confirmed, finding.held, outcomes[PLACED], len(holds)) == (wanted, 0, wanted, wanted),
        ),
        Verdict(
            "refusals as they must be",
            "; ".join(f"{who}: {n} x {what}" for (who, what), n in sorted(crowd.refusals.items())),
            "no other answer",
            not strange,
            wrong=strange,
        ),
        Verdict("one ticket a person", f"{several} with several", "0", not several),
        Verdict(
            "joined, of those who did",
            f"{joined} of {before}",
            f"all, but for one in {MISTAKEN_MAX:,}",
            0 <= before - joined <= before // MISTAKEN_MAX,
        ),
        Verdict(
            "order kept, by the journal",
            f"{len(holds)} places, {len(out_of_order)} above the mark",
            "0",
            bool(holds) and not out_of_order,
            wrong=out_of_order,
        ),
        Verdict(
            "the draw, computed again by `reservasi verify draw`",
            f"{draw['tickets']} tickets, {len(draw['findings'])} findings",
            f"{len(tickets)} tickets, 0 findings",
            draw["ok"] and draw["tickets"] == len(tickets) > 0,
            wrong=[str(each) for each in draw["findings"]],
        ),
        Verdict("the checker", f"{len(finding.violations)} violations", "0", not finding.violations),
    ]


def _verify_by_command(service: Service, scene: Scene, tickets: Sequence[Claimed]) -> dict[str, Any]:
    file = service.log_path.with_name("tickets.jsonl")
    file.write_bytes(b"".join(msgspec.json.encode(ticket) + b"\n" for ticket in tickets))
    draw = ("--url", service.url, "--opening", scene.opening, "--commitment", scene.commitment)
    done = service.command("verify", "draw", *draw, "--tickets", str(file))
    if not done.stdout:
        return {"ok": False, "findings": [done.stderr[-ERROR_CHARS:]], "tickets": 0}
    report: dict[str, Any] = json.loads(done.stdout)
    ok = report["ok"] and done.returncode == 0
    return {"ok": ok, "findings": report["findings"], "tickets": len(report["tickets"])}


def _until_all_know(visitors: Sequence[Visitor]) -> str:
    """The time from the last place given until the last waiting person reads that nothing is left."""
    last_ms = max((v.answered_ms for v in visitors if v.outcome == PLACED), default=0.0)
    known_ms = [v.answered_ms for v in visitors if v.outcome == SOLD_OUT and not v.late]
    return f"{max(known_ms) - last_ms:,.0f}" if known_ms and last_ms else "nobody was left"


def quantiles(took: Sequence[float]) -> str:
    ordered = sorted(took)
    if not ordered:
        return "none"
    return ", ".join(
        f"{name} {ordered[min(len(ordered) - 1, int(len(ordered) * share))]:,.0f}"
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    )
