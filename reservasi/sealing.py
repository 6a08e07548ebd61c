"""Keyed hashes, derived secrets and sealed envelopes, which keep personal data out of the ledger and the journal.

Everything here is derived from one key ring. `identity` never changes, since persons and reservations are recognised by
it; the sealing keys rotate: the active one seals, any key of the ring opens.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reservasi.errors import ConfigurationError, ReservasiError
from reservasi.text_files import NotUtf8, without_byte_order_mark

KEY_BYTES = 32
NONCE_BYTES = 12
_NONCES = struct.Struct(f"{NONCE_BYTES}s" * 1024)  # drawn together
TAG_CHARS = 4  # of the program's tag, at the start of each reservation id
RESERVATION_ID_CHARS = 26
_ID_BODY_CHARS = RESERVATION_ID_CHARS - TAG_CHARS
# one letter for each byte; each letter stands for equally many bytes
_ID_LETTERS = (b"abcdefghijklmnopqrstuvwxyz234567") * 8
PERSON_CHARS = 22  # 128 bits
TICKET_ID_CHARS = 22  # 128 bits
FINGERPRINT_CHARS = 16  # 96 bits: enough to notice a reused key; it does not protect against forgery
BOOKING_CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # no 0/O, 1/I/L, U: read aloud at a counter


class KeyRing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The secrets of one deployment."""

    identity: bytes  # 32 bytes; persons, reservation ids, bearer secrets and booking codes derive from it
    active: str  # id of the sealing key that seals
    sealing: dict[str, bytes]  # id -> 32 bytes; all keys that may still be needed to open
    next: str = ""  # id of the key that becomes active, once every process can be expected to have it
    next_from_ms: int = 0  # by each host's clock

    def active_at(self, now_ms: int) -> str:
        """The id of the key that seals at a moment."""
        return self.next if self.next and now_ms >= self.next_from_ms else self.active


def create_key_ring() -> KeyRing:
    """A new key ring from the system's random source."""
    return KeyRing(identity=secrets.token_bytes(KEY_BYTES), active="k1", sealing={"k1": secrets.token_bytes(KEY_BYTES)})


def load_key_ring(path: Path, *, create: bool) -> KeyRing:
    """The key ring in `path`; with `create`, a missing one is created, readable by its owner only.

    Raises:
        ConfigurationError: the file is missing, unreadable, or not a key ring.
    """
    if create and not path.exists():
        _write_once(path, msgspec.json.encode(create_key_ring()))
    try:
        ring = msgspec.json.decode(without_byte_order_mark(path.read_bytes()), type=KeyRing)
    except NotUtf8 as error:
        raise ConfigurationError(f"{path} is not a key ring: it {error}") from error
    except OSError as error:
        raise ConfigurationError(f"the key ring {path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path} is not a key ring: {error}") from error
    keys = [ring.identity, *ring.sealing.values()]
    named = {ring.active, ring.next or ring.active}
    if not named <= ring.sealing.keys() or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigurationError(f"{path} is not a key ring: keys have {KEY_BYTES} bytes, `active` names one of them")
    return ring


def replace_key_ring(path: Path, ring: KeyRing) -> None:
    """Replace the key ring in `path` atomically; owner and mode stay.

    Raises:
        ConfigurationError: it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        former = path.stat()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, former.st_uid, former.st_gid)
            os.fchmod(descriptor, former.st_mode & 0o777)
            file.write(msgspec.json.encode(ring))
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"the key ring {path} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write_once(path: Path, content: bytes) -> None:
    """Write a new private file atomically, unless it exists by now: two processes may start at once."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"the key ring {path} cannot be created: {error.strerror}") from error


class SealBroken(ReservasiError):
    """An envelope cannot be opened: altered, for another reservation, or its key is not in the ring."""


@lru_cache(maxsize=10_000)
def program_tag(program: str) -> str:
    """The first characters of a program's reservation ids; public, and the same in every deployment."""
    return base64.b32encode(hashlib.sha256(program.encode()).digest())[:TAG_CHARS].decode().lower()


class RotatingKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of one purpose, one for each sealing key of the ring: the active one signs, any one verifies."""

    active: str
    keys: dict[str, bytes]  # id -> 32 bytes


class Sealing:
    """Derives hashes and secrets, seals and opens personal data, under one key ring."""

    def __init__(self, ring: KeyRing) -> None:
        def subkey(purpose: str) -> bytes:
            return hmac.digest(ring.identity, purpose.encode(), "sha256")

        self._person_hash = hashlib.blake2b(key=subkey("person"), digest_size=17)
        self._reservation_hash = hashlib.blake2b(key=subkey("reservation"), digest_size=_ID_BODY_CHARS)
        self._fingerprint_hash = hashlib.blake2b(key=subkey("fingerprint"), digest_size=12)
        self._manage_hash = hashlib.blake2b(key=subkey("manage"), digest_size=32)
        self._booking_key = subkey("booking")
        self._api_key = subkey("api-key")
        self._ticket_hash = hashlib.blake2b(key=subkey("ticket-id"), digest_size=17)
        self.identity_mark = subkey("mark of blake2b").hex()  # identifies a deployment's key ring without revealing it
        self._nonces: list[bytes] = []
        os.register_at_fork(after_in_child=self._nonces.clear)  # processes must not share nonces
        self._path: Path | None = None
        self._seen: tuple[int, ...] = ()
        self._on_rotation: list[Callable[[], None]] = []
        self._ring = ring
        self._active = ring.active_at(_now_ms())
        self._ciphers = {key_id: AESGCM(key) for key_id, key in ring.sealing.items()}

    @property
    def active(self) -> str:
        return self._active

    def follow(self, path: Path) -> None:
        """Read the sealing keys from that file from now on, at each `refresh`."""
        self._path = path

    def on_rotation(self, callback: Callable[[], None]) -> None:
        """Call a function whenever the sealing keys, or the active one, have changed."""
        self._on_rotation.append(callback)

    def refresh(self) -> bool:
        """Check whether the key ring's file has changed, or a new key becomes active; True when keys changed.

        Raises:
            ConfigurationError: the file cannot be used, or is another deployment's; the keys stay as they are.
        """
        ring = self._read_changed() or self._ring
        active = ring.active_at(_now_ms())
        if ring == self._ring and active == self._active:
            return False
        self._ciphers = {key_id: AESGCM(key) for key_id, key in ring.sealing.items()}
        self._ring, self._active = ring, active
        for callback in self._on_rotation:
            callback()
        return True

    def _read_changed(self) -> KeyRing | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError as error:
            raise ConfigurationError(f"the key ring {self._path} cannot be read: {error.strerror}") from error
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        if identity == self._seen:
            return None
        ring = load_key_ring(self._path, create=False)
        if ring.identity != self._ring.identity:
            raise ConfigurationError(f"the key ring {self._path} is another deployment's")
        self._seen = identity
        return ring

    def person(self, program: str, nik: str) -> str:
        """A person within a program; the same NIK in another program gives another hash."""
        return _text(_keyed(f"{program}\0{nik}".encode(), self._person_hash), PERSON_CHARS)

    def reservation_id(self, program: str, person: str, idempotency_key: str) -> str:
        """The id under which a repeated claim finds the first one."""
        digest = _keyed(f"{program}\0{person}\0{idempotency_key}".encode(), self._reservation_hash)
        return program_tag(program) + digest.translate(_ID_LETTERS).decode()  # five bits of each byte: 110

    def fingerprint(self, content: bytes) -> str:
        """A keyed hash of a whole request: equal for a replay, different for a reused key."""
        return _text(_keyed(content, self._fingerprint_hash), FINGERPRINT_CHARS)

    def manage_token(self, reservation_id: str) -> str:
        """The bearer secret of a reservation."""
        return _text(_keyed(reservation_id.encode(), self._manage_hash), 43)

    def holds_manage_token(self, reservation_id: str, token: str) -> bool:
        """Whether `token` is the reservation's bearer secret, compared in constant time."""
        return hmac.compare_digest(self.manage_token(reservation_id).encode(), token.encode("utf-8", "replace"))

    def booking_code(self, reservation_id: str) -> str:
        """Twelve characters in groups of four (59 bits), for people: `K7QF-3M2P-XW8D`."""
        number = int.from_bytes(hmac.digest(self._booking_key, reservation_id.encode(), "sha256"), "big")
        letters = []
        for _ in range(12):
            number, index = divmod(number, len(BOOKING_CODE_ALPHABET))
            letters.append(BOOKING_CODE_ALPHABET[index])
        return "-".join("".join(letters[at : at + 4]) for at in (0, 4, 8))

    def api_key_hash(self, api_key: str) -> str:
        """The stored hash of a staff API key. The key has 256 random bits, so that a slow hash would add nothing."""
        return hmac.digest(self._api_key, api_key.encode("utf-8", "replace"), "sha256").hex()

    def ticket_id(self, program: str, opening: str, person: str) -> str:
        """The id of a person's one ticket to an opening, however often they join; 22 characters."""
        return _text(_keyed(f"{program}\0{opening}\0{person}".encode(), self._ticket_hash), TICKET_ID_CHARS)

    def rotating_keys(self, purpose: str) -> RotatingKeys:
        """Keys for signatures that must outlive a rotation, such as a ticket's; each purpose has its own."""
        keys = {each: hmac.digest(key, purpose.encode(), "sha256") for each, key in self._ring.sealing.items()}
        return RotatingKeys(active=self._active, keys=keys)

    def seal(self, reservation_id: str, content: bytes) -> str:
        """Encrypt (AES-256-GCM) for one reservation; returns text, since the ledger's msgpack takes no binary."""
        nonce = self._next_nonce()
        box = self._ciphers[self._active].encrypt(nonce, content, reservation_id.encode())
        return f"{self._active}.{_text(nonce + box)}"

    def _next_nonce(self) -> bytes:
        """Random bytes from the system, read for a thousand envelopes at once."""
        if not self._nonces:
            self._nonces += _NONCES.unpack(os.urandom(_NONCES.size))
        return self._nonces.pop()

    def open(self, reservation_id: str, sealed: str) -> bytes:
        """Decrypt what `seal` returned for this reservation.

        Raises:
            SealBroken: altered, for another reservation, or under a key that is not in the ring.
        """
        key_id, _, text = sealed.partition(".")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealBroken("the envelope's key is not in the ring")
        try:
            box = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], reservation_id.encode())
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise SealBroken("the envelope was altered, or is another reservation's") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _keyed(content: bytes, keyed: "hashlib.blake2b") -> bytes:
    """Keyed BLAKE2b (RFC 7693), copied from a state that has absorbed the key; much faster than HMAC-SHA-256."""
    hashed = keyed.copy()
    hashed.update(content)
    return hashed.digest()


def _text(digest: bytes, chars: int | None = None) -> str:
    """URL-safe base64 without padding, cut to `chars`."""
    encoded = binascii.b2a_base64(digest, newline=False).translate(_URL_SAFE).decode()
    return encoded[:chars] if chars is not None else encoded.rstrip("=")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
