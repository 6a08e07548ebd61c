"""What an idle connection costs a front in memory, in both services."""

from contextlib import ExitStack

from loadtest.bench.against.line import Line, check, get
from loadtest.bench.against.stand import Stand
from loadtest.bench.figures import Figure
from loadtest.stage.cores import resident_bytes
from loadtest.stage.service import Part

WARM_UP = 500  # connections that make room which later ones use again
OPENED = get("/v1/programs")


def compare(here: Stand, there: Stand, connections: int) -> Figure:
    """The whole memory of both fronts, each with so many idle connections."""
    fronts = [(stand.port, stand.service.pids(Part.FRONT)[0]) for stand in (there, here)]
    sides = [front_bytes(port, front, connections) for port, front in fronts]
    there_mib, here_mib = (whole / 2**20 for _, whole in sides)
    there_bytes, here_bytes = ((whole - before) / connections for before, whole in sides)
    return Figure(
        name=f"memory with {connections:,} idle connections",
        title="a front's resident memory, of the other revision's",
        value=here_mib / there_mib,
        target=1.0,
        sense="at most",
        note=f"{there_mib:.0f} -> {here_mib:.0f} MiB; a connection {there_bytes:,.0f} -> {here_bytes:,.0f} bytes",
    )


def front_bytes(port: int, front: int, connections: int) -> tuple[int, int]:
    """A front's memory before and with so many connections, each of which has had an answer."""
    before = 0
    with ExitStack() as stack:
        for number in range(WARM_UP + connections):
            if number == WARM_UP:
                before = resident_bytes(front)
            check(stack.enter_context(Line(port)).ask(OPENED), 200)
        return before, resident_bytes(front)
