"""Tickets: signed, stateless proofs of a person's place in front of an opening.

A ticket is a JWS in compact form (RFC 7515) under HS256, signed by joserfc. Its keys derive from the sealing keys in
the ring: the active one signs, any one verifies, so that a rotation spoils no ticket that people hold. There is one
text for each ticket and no freedom in it: the header is one of those written here, byte for byte, and the payload is
what these claims encode to. So nothing is chosen by whoever presents a ticket, neither the algorithm nor the key.
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
    """What a ticket says."""

    program: str
    opening: str
    id: str  # keyed hash of opening and person: 22 characters
    ends_at_ms: int  # as announced then: the opening's own end counts, which staff may move
    number: int | None  # of those who joined after the opening; everybody else's follows from the draw


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
    """Issues tickets and reads them, under the keys of one ring: `Tickets(sealing.rotating_keys("ticket"))`."""

    def __init__(self, keys: RotatingKeys) -> None:
        self._keys = {_header(each): OctKey.import_key(key) for each, key in keys.keys.items()}
        self._active = _header(keys.active)

    def issue(self, program: str, opening: str, ticket_id: str, ends_at_ms: int, number: int | None) -> str:
        """The ticket, as text; the same for the same arguments as long as the active key is the same.

        It ends at the last whole second before `ends_at_ms`. `number` is for those who join after the opening.
        """
        claims = _Claims(f"{program}/{opening}", ticket_id, ends_at_ms // 1000, number)
        content = self._active + b"." + urlsafe_b64encode(_encode(claims))
        return (content + b"." + self._signature(content, self._active)).decode()

    def read(self, text: str) -> Ticket:
        """What a ticket says, after its signature. Its end is the one that was announced when it was issued.

        Raises:
            TicketInvalid: not a ticket of this deployment, or altered in any way.
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
    """What a ticket says, without knowing who signed it and whether it has ended: for whoever has no key.

    Raises:
        TicketInvalid: it has not the form of a ticket.
    """
    parts = _bytes(text).split(b".")
    if len(parts) != 3:
        raise TicketInvalid("a ticket has three parts with dots between them")
    header, payload, signature = parts
    try:
        shape = _header_decoder.decode(urlsafe_b64decode(header))
        signed = len(urlsafe_b64decode(signature)) == 32
    except ValueError as error:  # of base64 as of msgspec
        raise TicketInvalid("the ticket's header or signature cannot be read") from error
    if _header(shape.kid) != header or not signed:
        raise TicketInvalid("the ticket's header or signature is not one of ours")
    return _ticket(payload)


def _bytes(text: str) -> bytes:
    if len(text) > TICKET_CHARS_MAX or not text.isascii():
        raise TicketInvalid("a ticket is a short text of plain letters")
    return text.encode()


def _header(key_id: str) -> bytes:
    return json_b64encode({"alg": ALGORITHM, "kid": key_id, "typ": TYPE})


def _ticket(payload: bytes) -> Ticket:
    try:
        claims = _claims_decoder.decode(urlsafe_b64decode(payload))
    except ValueError as error:  # of base64 as of msgspec
        raise TicketInvalid("the ticket's claims cannot be read") from error
    if urlsafe_b64encode(_encode(claims)) != payload:  # a claim twice, or written otherwise
        raise TicketInvalid("the ticket's claims are not written as ours are")
    program, _, opening = claims.aud.partition("/")
    return Ticket(program=program, opening=opening, id=claims.jti, ends_at_ms=claims.exp * 1000, number=claims.n)
