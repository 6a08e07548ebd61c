"""The ports of `up`: tried before anything is started, rather than let processes fail one after the other."""

import socket

from reservasi.errors import EmbeddedServerError
from reservasi.settings import Settings


def instead_of_taken(settings: Settings) -> int | None:
    """A free port for the worker's administration, where nobody chose one and another service has the usual one."""
    port = settings.worker_admin_port
    if "worker_admin_port" in settings.model_fields_set:
        return None
    try:
        if port not in (settings.port, settings.admin_port):
            _listen(settings.admin_host, port).close()
            return None
    except OSError:
        pass
    with _listen(settings.admin_host, 0) as free:
        return int(free.getsockname()[1])


def refuse_taken(settings: Settings) -> None:
    """Say which port cannot be had.

    Raises:
        EmbeddedServerError: one is taken, or not ours to take, or two are the same.
    """
    wanted = {
        "port": (settings.host, settings.port),
        "admin_port": (settings.admin_host, settings.admin_port),
        "worker_admin_port": (settings.admin_host, settings.worker_admin_port),
    }
    numbers = [number for _, number in wanted.values() if number]
    if len(set(numbers)) < len(numbers):
        raise EmbeddedServerError(f"{', '.join(wanted)} must differ: {', '.join(map(str, numbers))}")
    for name, (address, number) in wanted.items():
        try:
            _listen(address, number).close()
        except OSError as error:
            message = f"{name}: {address}:{number} cannot be listened on: {error.strerror}; choose another"
            raise EmbeddedServerError(message) from error


def _listen(address: str, number: int) -> socket.socket:
    """A socket that is bound there.

    Raises:
        OSError: it cannot be.
    """
    probe = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, number))
    except OSError:
        probe.close()
        raise
    return probe
