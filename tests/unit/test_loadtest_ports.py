"""Free ports: each once, none that somebody has, none that an outgoing connection may get meanwhile."""

import itertools
import socket

import pytest

from loadtest.stage import ports


def test_no_port_is_named_twice_and_all_lie_below_those_of_outgoing_connections() -> None:
    numbers = [*ports.free_ports(20), ports.free_port(), *ports.free_ports(20)]
    assert len(set(numbers)) == 41
    assert all(ports.LOWEST <= port <= ports.HIGHEST for port in numbers)


def test_a_port_that_somebody_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.free_port()))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_numbers", itertools.count(port - ports.LOWEST))
        assert port not in ports.free_ports(3)


def test_the_highest_port_is_followed_by_the_lowest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_numbers", itertools.count(ports.HIGHEST - ports.LOWEST))
    monkeypatch.setattr(ports, "_is_free", lambda _port: True)
    assert ports.free_ports(2) == [ports.HIGHEST, ports.LOWEST]


def test_it_gives_up_where_all_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_is_free", lambda _port: False)
    with pytest.raises(RuntimeError, match="not 2 are free"):
        ports.free_ports(2)
