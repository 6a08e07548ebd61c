"""A network that is cut in the kernel: each server, and the front that stays, on a host of its own.

A host is a network namespace. A switch, one more of them, has two bridges; a partition plugs the cables of those who
stay over to the other bridge. No host notices: its link stays up and it knows everybody's hardware address, so packets
vanish, no connection is refused or reset, and TCP sends anew what waited once all are on one bridge again.

We move to a host on the far side, and a second cable leads from there to the near front. Nothing is connected with the
machine's own network: addresses may be the same in two runs, and the names of namespaces are random.
"""

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from loadtest.ha.gates import Gate, Server
from loadtest.stage.processes import Host
from loadtest.stage.proxy import Connect

NETWORK = "198.18.0"  # of a range that RFC 2544 sets aside for measurements
OUR_SIDE_DOOR, NEAR_SIDE_DOOR = "198.18.1.1", "198.18.1.2"
FAR, NEAR, FIRST_SERVER = 1, 2, 3  # numbers of hosts
HOSTS_MAX = 12
PORT = 7000  # and the host's number, so that a port alone says whose it is
RECORDS_PORT = 5432
IP_TIMEOUT_S = 10.0
CLONE_NEWNET = 0x40000000  # from <linux/sched.h>
NAMED = Path("/run/netns")  # where `ip` keeps them

_LIBC = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A command of `ip` failed; the message is its output."""


class Namespaces:
    """One network of hosts; in a thread only one at a time."""

    sentinels_near = 1  # it goes on naming the first primary

    def __init__(self) -> None:
        self._prefix = f"rv-{secrets.token_hex(4)}"
        self._switch = f"{self._prefix}-switch"
        self.names: list[str] = []  # of all namespaces, made or about to be
        self.near = Host(address=NEAR_SIDE_DOOR, within=_within(self._name(NEAR)))
        self._servers: dict[Server, int] = {}  # and their hosts' numbers
        self._records: Gate | None = None

    @property
    def far(self) -> Path:
        return NAMED / self._name(FAR)

    def start(self) -> None:
        self._make(self._switch)
        for side in ("far", "near"):
            _ip(f"link add {side} type bridge", f"link set {side} up", within=self._switch)
        for number in (FAR, NEAR):
            self._add_host(number)
        cable = f"link add side type veth peer name side netns {self._name(NEAR)}"
        _ip(cable, f"addr add {OUR_SIDE_DOOR}/30 dev side", "link set side up", within=self._name(FAR))
        _ip(f"addr add {NEAR_SIDE_DOOR}/30 dev side", "link set side up", within=self._name(NEAR))

    async def add_ledger(self) -> Server:
        number = FIRST_SERVER + len(self._servers)
        self._add_host(number)
        host = Host(address=_address(number), within=_within(self._name(number)))
        server = Server(host=host, port=PORT + number, public_port=PORT + number, source=host.address)
        self._servers[server] = number
        return server

    async def add_sentinel(self) -> Server:
        return await self.add_ledger()

    async def lead_to_records(self, connect: Connect) -> str:
        """By a gate that is always open: PostgreSQL has no port, and what is cut is the network before it."""
        self._records = Gate(connect)
        await self._records.start(_address(FAR), RECORDS_PORT)
        return f"{_address(FAR)}:{RECORDS_PORT}"

    def part(self, staying: Collection[Server]) -> None:
        self._plug("near", [NEAR, *(self._servers[server] for server in staying)])

    def join(self) -> None:
        self._plug("far", [NEAR, *self._servers.values()])

    async def close(self) -> None:
        """Remove all there is; with its switch every cable is gone."""
        if self._records is not None:
            await self._records.close()
        _ip(*(f"netns del {name}" for name in self.names if (NAMED / name).exists()), all_of_them=True)

    def _plug(self, side: str, numbers: Collection[int]) -> None:
        _ip(*(f"link set port{number} master {side}" for number in numbers), within=self._switch)

    def _name(self, number: int) -> str:
        return f"{self._prefix}-{number}"

    def _make(self, name: str) -> None:
        self.names.append(name)
        _ip(f"netns add {name}")

    def _add_host(self, number: int) -> None:
        """A host on the far side; it knows all others' hardware addresses, since asking in vain would be an error."""
        assert number <= HOSTS_MAX, "a network is small"
        name = self._name(number)
        self._make(name)
        cable = f"link add port{number} type veth peer name eth0 address {_hardware(number)} netns {name}"
        _ip(cable, f"link set port{number} master far up", within=self._switch)
        others = (other for other in range(1, 1 + HOSTS_MAX) if other != number)
        peers = (f"neigh add {_address(other)} lladdr {_hardware(other)} dev eth0 nud permanent" for other in others)
        address = f"addr add {_address(number)}/24 dev eth0"
        _ip("link set lo up", address, "link set eth0 up", *peers, within=name)


def obstacle() -> str:
    """Why there can be no namespaces here, as a sentence for people; nothing where there can."""
    if os.geteuid() != 0:
        return "Network namespaces need root."
    if shutil.which("ip") is None:
        return "Network namespaces need the command ip: apt-get install iproute2."
    name = f"rv-{secrets.token_hex(4)}"
    try:
        _ip(f"netns add {name}", f"netns del {name}")
    except Refused as error:
        return f"This machine lets even root make no network namespace: {error}."
    return ""


@asynccontextmanager
async def open_namespaces() -> AsyncIterator[Namespaces]:
    """Such a network, with this thread on its far side, until the block ends."""
    network = Namespaces()
    try:
        network.start()
        with _moved_to(network.far):
            yield network
    finally:
        await network.close()


@contextmanager
def _moved_to(namespace: Path) -> Iterator[None]:
    """Let this thread, and what it starts, be in a namespace until the block ends."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        inside = os.open(namespace, os.O_RDONLY)
        try:
            _move(inside)
        finally:
            os.close(inside)
        try:
            yield
        finally:
            _move(before)
    finally:
        os.close(before)


def _move(namespace_fd: int) -> None:
    if _LIBC.setns(namespace_fd, CLONE_NEWNET) != 0:  # os.setns needs Python 3.12
        raise OSError(ctypes.get_errno(), "setns")


def _within(name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", name)


def _address(number: int) -> str:
    return f"{NETWORK}.{number}"


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _ip(*lines: str, within: str = "", all_of_them: bool = False) -> None:
    """Carry these commands out, in one go.

    Raises:
        Refused: one of them failed; those after it were tried where `all_of_them` says so.
    """
    command = ["ip", *(("-n", within) if within else ()), *(("-force",) if all_of_them else ()), "-batch", "-"]
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, timeout=IP_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise Refused(" ".join(done.stderr.split()))
