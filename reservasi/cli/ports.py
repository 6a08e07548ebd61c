"""The ports of a service: checked before anything is started, so that processes do not fail one after the other."""

import errno
import socket
from collections.abc import Sequence

from reservasi.cli.listeners import listener_on
from reservasi.errors import ConfigurationError, EmbeddedServerError
from reservasi.settings import Settings

BACKLOG = 128  # of an admin port
HOW = {  # how to choose another port
    "port": "--port or RESERVASI_PORT",
    "admin_port": "--admin-port or RESERVASI_ADMIN_PORT",
    "worker_admin_port": "RESERVASI_WORKER_ADMIN_PORT (for `reservasi worker` also --admin-port)",
}


def instead_of_taken(settings: Settings) -> int | None:
    """A free port for the worker's admin port, if it is not configured and the default one is in use."""
    return None if is_chosen(settings) else another_if_taken(settings)


def is_chosen(settings: Settings) -> bool:
    """Whether the worker's admin port is configured, so that no other may be used."""
    return "worker_admin_port" in settings.model_fields_set


def another_if_taken(settings: Settings) -> int | None:
    """A free port for the worker's admin port, if the one of the settings cannot be used now."""
    port = settings.worker_admin_port
    try:
        if port not in (settings.port, settings.admin_port):
            _close(listen(settings.admin_host, port))
            return None
    except OSError:
        pass
    free = listen(settings.admin_host, 0)
    number = int(free[0].getsockname()[1])
    _close(free)
    return number


def refuse_taken(settings: Settings, *, movable: bool = False) -> None:
    """Refuse ports of `up` that cannot be used; if `movable`, the worker's admin port may be in use.

    Raises:
        EmbeddedServerError: one is in use or not permitted, or two are the same.
    """
    wanted = {
        "port": (settings.host, settings.port),
        "admin_port": (settings.admin_host, settings.admin_port),
        "worker_admin_port": (settings.admin_host, settings.worker_admin_port),
    }
    try:
        refuse_same(settings, *wanted)
    except ConfigurationError as error:
        raise EmbeddedServerError(str(error)) from error
    if movable:
        del wanted["worker_admin_port"]
    for name, (address, number) in wanted.items():
        try:
            _close(take(name, address, number))
        except ConfigurationError as error:
            raise EmbeddedServerError(str(error)) from error


def refuse_same(settings: Settings, *names: str) -> None:
    """Refuse ports of the settings of which two are the same; 0 is any free port.

    Raises:
        ConfigurationError: two are the same.
    """
    numbers = [number for name in names if (number := getattr(settings, name))]
    if len(set(numbers)) < len(numbers):
        raise ConfigurationError(f"{', '.join(names)} must differ: {', '.join(map(str, numbers))}")


def take(name: str, address: str, number: int) -> list[socket.socket]:
    """Exclusive sockets that listen on a port of the settings.

    Raises:
        ConfigurationError: the port cannot be used; the message names it and what to do.
    """
    try:
        return listen(address, number)
    except OSError as error:
        cause = error.strerror or str(error)
        who = listener_on(number) if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(
            f"{name}: {authority(address, number)} cannot be used: {cause}; stop what listens there"
            f"{f' ({who})' if who else ''}, or choose another {name} with {HOW[name]}"
        ) from error


def listen(address: str, number: int) -> list[socket.socket]:
    """Exclusive listening sockets, one for each address of a name.

    Raises:
        OSError: one of them cannot listen.
    """
    infos = socket.getaddrinfo(address, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    try:
        for family, _, _, _, where in dict.fromkeys(infos):
            one = socket.socket(family, socket.SOCK_STREAM)
            listening.append(one)
            # while old connections end; does not share the port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            port = where[1] or (listening[0].getsockname()[1] if len(listening) > 1 else 0)
            one.bind((where[0], port, *where[2:]))
            one.listen(BACKLOG)
    except OSError:
        _close(listening)
        raise
    return listening


def authority(address: str, number: int) -> str:
    """Address and port as in a URL."""
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def _close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()
