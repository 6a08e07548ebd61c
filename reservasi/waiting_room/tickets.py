"""Tickets: signed, stateless proofs of a person's place in the queue of an opening.

A ticket is a compact JWS (RFC 7515) under HS256, signed by joserfc. Its keys derive from the sealing keys of the ring:
the active one signs, any one verifies, so that tickets stay valid after a rotation. Each ticket has exactly one
encoding: the header is byte for byte one of those written here, and the payload is the encoding of these claims. The
bearer can therefore choose nothing, neither the algorithm nor the key.
"""

import hmac
from typing import Annotated, Literal

import msgspec
from joserfc import jws
from joserfc.jwk import OctKey
from joserfc.util import json_b64encode, urlsafe_b64decode, urlsafe_b64encode

from reservasi.errors import ReservasiError
from reservasi.sealing import TICKET_ID_CHARS, RotatingKeys

ALGORITHM = "HS256"
TYPE = "reservasi-ticket"
TICKET_CHARS_MAX = 1024
_SIGNATURE = jws.JWSRegistry(algorithms=[ALGORITHM]).get_alg(ALGORITHM)


class TicketInvalid(ReservasiError):
    """A text is not a ticket that this deployment signed."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a ticket."""

    program: str
    opening: str
    id: str  # keyed hash of opening and person: 22 characters
    ends_at_ms: int  # as announced at issue; the opening's current end counts, which staff may move
    number: int | None  # set for people who joined after the opening; other numbers follow from the draw


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["HS256"]
    kid: str
    typ: Literal["reservasi-ticket"]


class _Claims(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    aud: Annotated[str, msgspec.Meta(pattern=r"\A[^/]+/[^/]+\Z")]  # program and opening
    jti: Annotated[str, msgspec.Meta(min_length=TICKET_ID_CHARS, max_length=TICKET_ID_CHARS)]
    exp: Annotated[int, msgspec.Meta(ge=0)]  # seconds
    n: Annotated[int, msgspec.Meta(ge=0)] | None = None


_claims_decoder = msgspec.json.Decoder(_Claims)
_header_decoder = msgspec.json.Decoder(_Header)
_encode = msgspec.json.Encoder().encode


class Tickets:
    """Issues and reads tickets under the keys of one ring: `Tickets(sealing.rotating_keys("ticket"))`."""

    def __init__(self, keys: RotatingKeys) -> None:
        self._keys = {_header(each): OctKey.import_key(key) for each, key in keys.keys.items()}
        self._active = _header(keys.active)

    def issue(self, program: str, opening: str, ticket_id: str, ends_at_ms: int, number: int | None) -> str:
        """The ticket as text; the same arguments give the same text while the active key is the same.

        It ends at the last whole second before `ends_at_ms`. `number` is for people who join after the opening.
        """
        claims = _Claims(f"{program}/{opening}", ticket_id, ends_at_ms // 1000, number)
        content = self._active + b"." + urlsafe_b64encode(_encode(claims))
        return (content + b"." + self._signature(content, self._active)).decode()

    def read(self, text: str) -> Ticket:
        """Verify the signature and return the content. `ends_at_ms` is the end that was announced at issue.

        Raises:
            TicketInvalid: not a ticket of this deployment, or altered.
        """
        token = _bytes(text)
        content, _, signature = token.rpartition(b".")
        header, _, payload = content.partition(b".")
        if header not in self._keys or not hmac.compare_digest(self._signature(content, header), signature):
            raise TicketInvalid("the ticket was not signed here, or was altered")
        return _ticket(payload)

    def _signature(self, content: bytes, header: bytes) -> bytes:
        return urlsafe_b64encode(_SIGNATURE.sign(content, self._keys[header]))


def read_unverified(text: str) -> Ticket:
    """The content of a ticket without a check of signature and end, for callers without a key.

    Raises:
        TicketInvalid: it does not have the form of a ticket.
    """
    parts = _bytes(text).split(b".")
    if len(parts) != 3:
        raise TicketInvalid("a ticket has three parts separated by dots")
    header, payload, signature = parts
    try:
        shape = _header_decoder.decode(urlsafe_b64decode(header))
        signed = len(urlsafe_b64decode(signature)) == 32
    except ValueError as error:  # of base64 or msgspec
        raise TicketInvalid("the ticket's header or signature cannot be read") from error
    if _header(shape.kid) != header or not signed:
        raise TicketInvalid("the ticket's header or signature is not valid")
    return _ticket(payload)


def _bytes(text: str) -> bytes:
    if len(text) > TICKET_CHARS_MAX or not text.isascii():
        raise TicketInvalid("a ticket is a short ASCII text")
    return text.encode()


def _header(key_id: str) -> bytes:
    return json_b64encode({"alg": ALGORITHM, "kid": key_id, "typ": TYPE})


def _ticket(payload: bytes) -> Ticket:
    try:
        claims = _claims_decoder.decode(urlsafe_b64decode(payload))
    except ValueError as error:  # of base64 or msgspec
        raise TicketInvalid("the ticket's claims cannot be read") from error
    if urlsafe_b64encode(_encode(claims)) != payload:  # a repeated claim, or another encoding
        raise TicketInvalid("the ticket's claims are not in canonical form")
    program, _, opening = claims.aud.partition("/")
    return Ticket(program=program, opening=opening, id=claims.jti, ends_at_ms=claims.exp * 1000, number=claims.n)
