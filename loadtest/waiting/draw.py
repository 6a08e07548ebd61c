"""A number by the published rule, written anew from its description: it must not share a mistake with the service."""

import base64
import hashlib
import hmac
import json
from typing import Any


def commitment_of(seed: str) -> str:
    return hashlib.sha256(bytes.fromhex(seed)).hexdigest()


def number_of(queue: dict[str, Any], ticket_id: str) -> int:
    """The number of a person who joined before the opening, by the queue's public document."""
    message = ticket_id + "\n" + queue.get("beacon", "")
    digest = hmac.new(bytes.fromhex(queue["seed"]), message.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") * int(queue["joined"]) // 2**64


def claims_of(ticket: str) -> dict[str, Any]:
    """What a ticket says; anybody can read it."""
    payload = ticket.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
