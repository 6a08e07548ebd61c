"""Reads ledger and database after a run and judges them, together and against the clients' answers."""

from collections.abc import Sequence

import msgspec

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence, programs_of, read_database, read_ledger
from loadtest.checker.history import Exchange
from loadtest.checker.history_rules import answer_violations, history_violations, order_violations
from loadtest.checker.replay import journal_violations
from loadtest.checker.rules import Rule, Violation, database_violations, ledger_violations

SHOWN_MAX = 20  # violations of one rule that are printed; the rest is counted


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    program: str
    capacity: int = 0
    held: int = 0
    confirmed: int = 0
    returning: int = 0
    booked: int = 0  # places of confirmed rows in the database
    reservations: int = 0  # records in the ledger, live or not
    changes: int = 0  # events in the recorded journal
    violations: tuple[Violation, ...] = ()


async def check(
    redis_url: str,
    postgres_dsn: str,
    history: Sequence[Exchange] = (),
    programs: Sequence[str] = (),
    *,
    recorded_timeout_s: float | None = None,
) -> list[Finding]:
    """Check these programs, or all that the database knows of, once the recorder has come so far or its time is over.

    Raises:
        Moving: people are still claiming.
        ReservasiError, asyncpg.PostgresError, OSError: ledger or database cannot be read.
    """
    findings = []
    for program in programs or await programs_of(postgres_dsn):
        ledger = await read_ledger(redis_url, program)
        if ledger is None:
            fenced = Violation(Rule.FENCED, program, "nobody owns the ledger of this run of its server")
            findings.append(Finding(program=program, violations=(fenced,)))
            continue
        database = await read_database(postgres_dsn, program, ledger.position, timeout_s=recorded_timeout_s)
        exchanges = [exchange for exchange in history if _is_about(exchange, program, ledger)]
        findings.append(judge(program, ledger, database, exchanges))
    return findings


def judge(
    program: str, ledger: LedgerEvidence, database: DatabaseEvidence, history: Sequence[Exchange] = ()
) -> Finding:
    violations = (
        *ledger_violations(ledger),
        *database_violations(ledger, database),
        *journal_violations(ledger, database),
        *history_violations(history, ledger, database),
        *order_violations(history, ledger, database),
        *answer_violations(history, ledger, database),
    )
    quotas = ledger.quotas.values()
    return Finding(
        program=program,
        capacity=sum(quota.terms.capacity for quota in quotas),
        held=sum(quota.counts.held for quota in quotas),
        confirmed=sum(quota.counts.confirmed for quota in quotas),
        returning=sum(quota.counts.returning for quota in quotas),
        booked=sum(row.places for row in database.bookings if row.state == "confirmed"),
        reservations=len(ledger.reservations),
        changes=sum(len(entry.events) for entry in database.journal),
        violations=violations,
    )


def _is_about(exchange: Exchange, program: str, ledger: LedgerEvidence) -> bool:
    """Whether an exchange speaks of the program; ids begin with the tag of theirs, which all its reservations share."""
    if exchange.quota:
        return exchange.quota.partition(".")[0] == program
    some_id = next(iter(ledger.reservations), "")
    return exchange.reservation_id[:4] == some_id[:4]


def show(findings: Sequence[Finding]) -> int:
    """Print what was found; the exit code."""
    for finding in findings:
        print(
            f"{finding.program}: {finding.capacity} places: {finding.held} held, {finding.confirmed} confirmed, "
            f"{finding.returning} returning; {finding.booked} booked in the database; "
            f"{finding.reservations} reservations, {finding.changes} changes"
        )
        for rule in Rule:
            broken = [violation for violation in finding.violations if violation.rule is rule]
            for violation in broken[:SHOWN_MAX]:
                print(f"  VIOLATION {violation}")
            if len(broken) > SHOWN_MAX:
                print(f"  VIOLATION {rule}: and {len(broken) - SHOWN_MAX} more")
    count = sum(len(finding.violations) for finding in findings)
    print(f"{count} violations in {len(findings)} programs")
    return 1 if count else 0
