"""What the clients saw: every request and its answer with times, one JSON object a line.

Invented people only, so answers are kept whole, manage tokens included: a replay must return the very same ones.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import msgspec

NO_ANSWER = 0  # the connection was refused, cut or timed out: nobody knows what the service did

# No definite answer: people ask again. Only a deployment's proxy answers 502 or 504, on behalf of a front.
INDEFINITE = frozenset({NO_ANSWER, 429, 502, 503, 504})


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    person: int  # number of the applicant
    call: str  # claim, confirm, cancel, show
    sent_ms: float  # since the Unix epoch, by the client's clock
    answered_ms: float
    outcome: int  # HTTP status, or NO_ANSWER
    key: str = ""  # Idempotency-Key, claims only
    quota: str = ""  # claims only
    places: int = 0  # asked for, claims only
    reservation_id: str = ""  # everything but claims
    replayed: bool = False  # Idempotent-Replayed was set
    epoch: int = 0  # of the ledger's answer, where the client gets them: HTTP has neither
    seq: int = 0
    body: dict[str, Any] = {}  # of answers below 300; of others `type` only


def write_exchange(file: TextIO, exchange: Exchange) -> None:
    file.write(msgspec.json.encode(exchange).decode() + "\n")


def read_history(path: Path) -> list[Exchange]:
    """All exchanges of a file, in the order in which the answers came."""
    decoder = msgspec.json.Decoder(Exchange)
    with path.open("rb") as lines:
        return [decoder.decode(line) for line in lines]


def server_errors(history: Iterable[Exchange]) -> Counter[int]:
    return Counter(exchange.outcome for exchange in history if exchange.outcome >= 500)
