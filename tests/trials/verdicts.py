"""What the checker found in a library, beside the bug that is in it."""

import secrets
from collections.abc import Sequence

import msgspec

from loadtest.checker.mutants import Mutant, mutated
from loadtest.checker.rules import Rule, Violation
from reservasi.ledger.lua.library import read_library
from tests.trials.stores import Stores

HALTED_S = 0.5  # how long a recorder that cannot go on is waited for
UNCHANGED = "(unchanged)"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker found in one library."""

    name: str
    expected: frozenset[Rule]  # none: it has no bug
    violations: tuple[Violation, ...]

    @property
    def rules(self) -> list[Rule]:
        rule_set = {violation.rule for violation in self.violations}
        return sorted(rule_set, key=lambda rule: (rule not in self.expected, rule))

    @property
    def is_right(self) -> bool:
        return bool(self.expected.intersection(self.rules)) if self.expected else not self.violations


async def judge_mutant(stores: Stores, mutant: Mutant | None, seed: int = 0) -> Verdict:
    program = f"m-{secrets.token_hex(4)}"
    if mutant is None:
        violations = await stores.judge(read_library(), program, seed=seed)
        return Verdict(name=UNCHANGED, expected=frozenset(), violations=violations)
    timeout_s = HALTED_S if mutant.halts else None
    violations = await stores.judge(mutated(mutant), program, seed=seed, recorded_timeout_s=timeout_s)
    return Verdict(name=mutant.name, expected=mutant.rules, violations=violations)


def show(verdicts: Sequence[Verdict]) -> int:
    """Print the table; the exit code."""
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        rules = ", ".join(verdict.rules) or "nothing"
        print(f"{verdict.name:<{width}}  {rules}" if verdict.is_right else f"{verdict.name:<{width}}  WRONG: {rules}")
    wrong = [verdict for verdict in verdicts if not verdict.is_right]
    for verdict in wrong:
        for violation in verdict.violations[:5]:
            print(f"  {verdict.name}: {violation}")
    print(f"{len(verdicts) - len(wrong)} of {len(verdicts)} judged rightly")
    return 1 if wrong else 0
