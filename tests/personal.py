"""Where personal data could hide, and every form that it could have there.

`stored` reads what a Valkey holds as values: a DUMP is packed and compressed, and nothing would be found in it.
`traces` names the places in which a text stands, in clear or in a form from which anybody gets it back: a hash without
a key is one too, since there are few enough NIKs to try them all.
"""

import base64
import hashlib
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import redis.asyncio as redis_asyncio

GROUPS = ((2, 2, 2, 6, 4), (2, 2, 2, 2, 2, 2, 4), (6, 6, 4), (4, 4, 4, 4))  # region, birth date, number; a card's fours
SEPARATORS = (" ", ".", "-", "/", "_", "%20", "\u00a0")
SCAN_KEYS = 1000  # looked at in one step


async def stored(client: redis_asyncio.Redis, program: str) -> dict[str, bytes]:
    """Every key of the program with its name and all its values, as they were written."""
    names = [bytes(key) async for key in client.scan_iter(match=f"*{{{program}}}*", count=SCAN_KEYS)]
    return {
        f"key {key.decode(errors='backslashreplace')}": b"\0".join([key, *_flat(await _values(client, key))])
        for key in names
    }


async def _values(client: redis_asyncio.Redis, key: bytes) -> Any:
    kind = await client.type(key)
    match kind:
        case b"string":
            return await client.get(key)
        case b"hash":
            return await client.hgetall(key)
        case b"list":
            return await client.lrange(key, 0, -1)
        case b"set":
            return await client.smembers(key)
        case b"zset":
            return await client.zrange(key, 0, -1, withscores=True)
        case b"stream":
            return await client.xrange(key)
    raise AssertionError(f"{key!r} is a {kind!r}, which nobody has looked into")


def _flat(value: Any) -> list[bytes]:
    match value:
        case bytes():
            return [value]
        case Mapping():
            return [part for pair in value.items() for each in pair for part in _flat(each)]
        case list() | tuple() | set():
            return [part for each in value for part in _flat(each)]
    return [str(value).encode()]


def below(directory: Path) -> dict[str, bytes]:
    """What the files of a directory hold, whatever they are for; one that is replaced meanwhile is not there."""
    files = {}
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError, OSError):
            files[f"file {file}"] = file.read_bytes()
    return files


def traces(places: Mapping[str, bytes], secrets: Iterable[str]) -> list[str]:
    """Where one of the texts can be read, each as `place: form`."""
    forms = [(name, form) for secret in secrets for name, form in _forms(secret)]
    return [f"{place}: {name}" for place, content in places.items() for name, form in forms if form in content]


def _forms(secret: str) -> list[tuple[str, bytes]]:
    clear = secret.encode()
    forms = [("clear", clear), ("hexadecimal", clear.hex().encode()), ("UTF-16", secret.encode("utf-16-le"))]
    forms += [("hexadecimal", clear.hex().upper().encode()), ("reversed", clear[::-1])]
    forms.append(("escaped", "".join(f"\\u{ord(letter):04x}" for letter in secret).encode()))
    forms += [("base64", _base64_inside(clear, offset)) for offset in range(3)]
    for name in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        digest = hashlib.new(name, clear).digest()
        forms += [(name, digest), (name, digest.hex().encode()), (name, base64.b64encode(digest).rstrip(b"="))]
    if secret.isdigit() and len(secret) == sum(GROUPS[0]):
        forms += [("separated", separated.encode()) for separated in separated_niks(secret)]
    if secret.isdigit():
        number = int(secret)
        forms += [("integer", number.to_bytes(8, "big")), ("integer", number.to_bytes(8, "little"))]
        forms += [("float", struct.pack(">d", number)), ("float", b"%.14g" % number)]  # what Lua makes of it
    return forms


def separated_niks(nik: str) -> list[str]:
    """A NIK in the groups and with the separators in which people write it."""
    forms = []
    for sizes in GROUPS:
        ends = list(accumulate(sizes))
        parts = [nik[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        forms += [separator.join(parts) for separator in SEPARATORS]
    return forms


def _base64_inside(clear: bytes, offset: int) -> bytes:
    """What surely stands in the base64 of a text that has `clear` at a position of this remainder by three."""
    padded = b"\0" * offset + clear
    whole = base64.b64encode(padded[: len(padded) // 3 * 3])
    return whole[0 if offset == 0 else 4 :]
