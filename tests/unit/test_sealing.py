"""Keyed hashes, derived secrets, envelopes, and the key ring's file."""

import base64
import os
import stat
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import msgspec
import pytest

from reservasi.errors import ConfigurationError
from reservasi.sealing import (
    BOOKING_CODE_ALPHABET,
    KeyRing,
    SealBroken,
    Sealing,
    create_key_ring,
    load_key_ring,
    program_tag,
)

RING = KeyRing(identity=b"i" * 32, active="k2", sealing={"k1": b"1" * 32, "k2": b"2" * 32})
ID = "abcd" + "e" * 22


@pytest.fixture
def sealing() -> Sealing:
    return Sealing(RING)


def test_what_is_derived_never_changes(sealing: Sealing) -> None:
    """People, reservations and codes handed out are recognised by these for ever: a change here is a break."""
    person = sealing.person("surabaya", "3578014101900001")
    reservation_id = sealing.reservation_id("surabaya", person, "key")
    assert person == "9TDodeKq-NwkKYCBjZYVRt"
    assert reservation_id == "4rpe5hnflvibzmzxzq2bxcrfas"
    assert sealing.fingerprint(b"content") == "TN-DU8h4_ir4KlPT"
    assert sealing.manage_token(reservation_id) == "AN4tNtPTy1NqPabO_bG9_Va28dUFx-QEwTcicjS8poo"
    assert sealing.booking_code(reservation_id) == "YECT-4AV8-JRYK"
    assert sealing.api_key_hash("secret") == "7e9e9b72625cb3cf7f79945dd3c170cb9b1d229214703533abf3070ccaa784da"


def test_shapes(sealing: Sealing) -> None:
    person = sealing.person("surabaya", "3578014101900001")
    reservation_id = sealing.reservation_id("surabaya", person, "key")
    assert len(person) == 22
    assert len(reservation_id) == 26
    assert reservation_id.startswith(program_tag("surabaya"))
    assert set(reservation_id) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert len(sealing.fingerprint(b"content")) == 16
    assert len(sealing.manage_token(reservation_id)) == 43
    code = sealing.booking_code(reservation_id)
    assert [len(part) for part in code.split("-")] == [4, 4, 4]
    assert set(code) <= set(BOOKING_CODE_ALPHABET) | {"-"}


def test_everything_that_differs_gives_something_else(sealing: Sealing) -> None:
    other = Sealing(msgspec.structs.replace(RING, identity=b"j" * 32))
    persons = {
        sealing.person("a", "1"),
        sealing.person("b", "1"),
        sealing.person("a", "2"),
        other.person("a", "1"),
        sealing.person("a\0", "1"),
    }
    assert len(persons) == 5
    ids = {sealing.reservation_id(*parts) for parts in (("a", "p", "k"), ("a", "p", "l"), ("a", "q", "k"))}
    ids |= {other.reservation_id("a", "p", "k"), sealing.reservation_id("b", "p", "k")}
    assert len(ids) == 5
    # Purposes do not share a key: one secret says nothing of another.
    assert len({each[:8] for each in (sealing.person("", ID), sealing.manage_token(ID), sealing.api_key_hash(ID))}) == 3
    assert len({sealing.booking_code(f"{ID}{number}") for number in range(2000)}) == 2000


def test_a_manage_token_opens_its_own_reservation_only(sealing: Sealing) -> None:
    token = sealing.manage_token(ID)
    assert sealing.holds_manage_token(ID, token)
    for wrong in ("", token[:-1], token + "A", token.swapcase(), "ü" * 43, "\ud800", sealing.manage_token(ID + "x")):
        assert not sealing.holds_manage_token(ID, wrong)


@pytest.mark.parametrize("content", [b"", b"x", "Siti 🙏".encode(), os.urandom(5000)])
def test_an_envelope_opens_to_what_was_sealed(content: bytes, sealing: Sealing) -> None:
    sealed = sealing.seal(ID, content)
    assert sealed.isascii()
    assert sealed.startswith("k2.")
    assert sealing.open(ID, sealed) == content
    assert sealing.seal(ID, content) != sealed, "each envelope has its own nonce"


def test_an_envelope_of_a_retired_key_still_opens(sealing: Sealing) -> None:
    old = Sealing(msgspec.structs.replace(RING, active="k1")).seal(ID, b"content")
    assert old.startswith("k1.")
    assert sealing.open(ID, old) == b"content"
    forgotten = Sealing(msgspec.structs.replace(RING, sealing={"k2": RING.sealing["k2"]}))
    with pytest.raises(SealBroken, match="not in the ring"):
        forgotten.open(ID, old)


def test_an_altered_or_foreign_envelope_does_not_open(sealing: Sealing) -> None:
    sealed = sealing.seal(ID, b"content")
    box = bytearray(base64.urlsafe_b64decode(sealed[3:] + "=="))
    for at in range(len(box)):
        flipped = bytes(byte ^ (index == at) for index, byte in enumerate(box))
        with pytest.raises(SealBroken):
            sealing.open(ID, "k2." + base64.urlsafe_b64encode(flipped).rstrip(b"=").decode())
    for broken in (sealed[:-1], sealed[:5], "k2.", "k1" + sealed[2:], "", "k2", "k2.ü", "k2.a"):
        with pytest.raises(SealBroken):
            sealing.open(ID, broken)
    with pytest.raises(SealBroken):
        sealing.open(ID[:-1] + "f", sealed)


def test_a_key_ring_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secrets.json"
    ring = load_key_ring(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key_ring(path, create=True) == load_key_ring(path, create=False) == ring
    assert ring.active in ring.sealing
    assert ring != create_key_ring()
    assert [each.name for each in path.parent.iterdir()] == ["secrets.json"], "no draft stays behind"


# Says when it is ready, and loads the ring when it hears that all are.
LOADS = """
import pathlib, sys
from reservasi.sealing import load_key_ring
print("ready", flush=True)
sys.stdin.readline()
print(load_key_ring(pathlib.Path(sys.argv[1]), create=True).identity.hex())
"""


def test_processes_that_start_at_once_agree_on_one_ring(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOADS, str(tmp_path / "secrets.json")]
    processes = [Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(4)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        identities = {process.communicate(timeout=30)[0] for process in processes}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    (identity,) = identities
    assert len(identity.strip()) == 64


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "not json",
        '{"identity":"YQ==","active":"k1","sealing":{}}',
        msgspec.json.encode(msgspec.structs.replace(RING, active="k3")).decode(),
        msgspec.json.encode(msgspec.structs.replace(RING, identity=b"short")).decode(),
        msgspec.json.encode(msgspec.structs.replace(RING, sealing={"k2": b"2" * 33})).decode(),
    ],
)
def test_a_file_that_is_no_key_ring_is_refused_and_kept(content: str, tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="key ring"):
        load_key_ring(path, create=True)
    assert path.read_text() == content


def test_a_missing_or_impossible_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_key_ring(tmp_path / "none.json", create=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be created"):
        load_key_ring(tmp_path / "file" / "secrets.json", create=True)


def test_no_nonce_comes_twice_not_even_in_a_child(sealing: Sealing) -> None:
    nonces = {sealing.seal("id", b"")[3:19] for _ in range(3000)}
    assert len(nonces) == 3000
    received, sent = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sent, sealing.seal("id", b"")[3:19].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(received, 100).decode() not in {sealing.seal("id", b"")[3:19] for _ in range(2000)}
