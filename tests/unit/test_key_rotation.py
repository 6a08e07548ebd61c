"""A new sealing key while processes run: they read the file, and use the key from its moment on."""

import time
from pathlib import Path

import msgspec
import pytest

from reservasi.cli.sealing_keys import described, rotated
from reservasi.errors import ConfigurationError
from reservasi.sealing import KeyRing, SealBroken, Sealing, create_key_ring, load_key_ring, replace_key_ring

ID = "abcd" + "e" * 22
NOW_MS = 1_780_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.json"
    load_key_ring(path, create=True)
    return path


def following(path: Path) -> Sealing:
    sealing = Sealing(load_key_ring(path, create=False))
    sealing.follow(path)
    return sealing


def test_a_key_takes_over_at_its_moment_and_the_former_one_opens() -> None:
    ring = create_key_ring()
    new = rotated(ring, NOW_MS, 60_000)
    assert [new.active_at(NOW_MS + ms) for ms in (0, 59_999, 60_000)] == ["k1", "k1", "k2"]
    assert new.identity == ring.identity
    assert new.sealing["k1"] == ring.sealing["k1"] != new.sealing["k2"]
    assert [row["state"] for row in described(new, NOW_MS)] == ["seals", "seals soon"]
    assert [row["state"] for row in described(new, NOW_MS + 60_000)] == ["opens", "seals"]
    with pytest.raises(ConfigurationError, match="k2 is not active yet"):
        rotated(new, NOW_MS + 59_999, 0)
    third = rotated(new, NOW_MS + 60_000, 1000)
    assert (third.active, third.next, list(third.sealing)) == ("k2", "k3", ["k1", "k2", "k3"])


def test_what_is_listed_has_no_keys_in_it() -> None:
    ring = rotated(create_key_ring(), NOW_MS, 0)
    listing = msgspec.json.encode(described(ring, NOW_MS))
    assert all(msgspec.json.encode(key) not in listing for key in (ring.identity, *ring.sealing.values()))


def test_running_processes_follow_the_file(path: Path) -> None:
    front, other = following(path), following(path)
    keys: list[str] = []
    front.on_rotation(lambda: keys.append(front.active))
    before = front.seal(ID, b"before")
    assert not front.refresh()
    now_ms = time.time_ns() // 1_000_000
    replace_key_ring(path, rotated(load_key_ring(path, create=False), now_ms, 3_600_000))
    assert front.refresh()
    assert not front.refresh()
    assert front.seal(ID, b"x").startswith("k1."), "others may not know the key yet"
    with_moment = msgspec.structs.replace(load_key_ring(path, create=False), next_from_ms=now_ms - 1)
    replace_key_ring(path, with_moment)
    assert front.refresh()
    assert keys == ["k1", "k2"]
    after = front.seal(ID, b"after")
    assert after.startswith("k2.")
    assert (front.open(ID, before), front.open(ID, after)) == (b"before", b"after")
    with pytest.raises(SealBroken):
        other.open(ID, after)
    other.refresh()
    assert other.open(ID, after) == b"after"


def test_a_moment_that_comes_is_noticed_without_a_change_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reservasi.sealing._now_ms", lambda: NOW_MS)
    replace_key_ring(path, rotated(load_key_ring(path, create=False), NOW_MS, 60_000))
    front = following(path)
    assert not front.refresh()
    monkeypatch.setattr("reservasi.sealing._now_ms", lambda: NOW_MS + 60_000)
    assert front.refresh()
    assert front.active == "k2"


def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_are(path: Path) -> None:
    front = following(path)
    sealed = front.seal(ID, b"content")
    good = path.read_bytes()
    for content in (b"", b"{", msgspec.json.encode(create_key_ring())):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError):
            front.refresh()
        assert front.open(ID, sealed) == b"content"
    path.unlink()
    with pytest.raises(ConfigurationError):
        front.refresh()
    path.write_bytes(good)
    front.refresh()
    assert front.open(ID, sealed) == b"content"


def test_replacing_keeps_mode_and_leaves_nothing_behind(path: Path) -> None:
    path.chmod(0o640)
    replace_key_ring(path, rotated(load_key_ring(path, create=False), NOW_MS, 0))
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_a_ring_from_before_rotations_is_read_and_written_as_it_was(path: Path) -> None:
    assert b"next" not in path.read_bytes()
    ring = load_key_ring(path, create=False)
    assert ring == KeyRing(identity=ring.identity, active="k1", sealing=ring.sealing)


def test_a_key_ring_that_windows_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    ring = load_key_ring(path, create=True)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b",", b",\r\n") + b"\r\n")
    assert load_key_ring(path, create=False) == ring
    path.write_bytes(path.read_bytes().decode("utf-8-sig").encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"saved as UTF-16 .*save it as UTF-8"):
        load_key_ring(path, create=False)
