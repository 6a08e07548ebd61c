"""What an answer waits for before it is given."""

import msgspec


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """One way to set the service up."""

    name: str
    replicas: int = 0
    aof: str = "off"

    @property
    def settings(self) -> dict[str, object]:
        """As the service is given them; a replica tells of its file once a second."""
        timeout_ms = 1500 if self.aof == "replicas" else 300
        return {"replicas_min_ack": self.replicas, "aof_ack": self.aof, "replicas_ack_timeout_ms": timeout_ms}


NOBODY = Mode(name="nobody (default)")
ONE = Mode(name="1 of 2 replicas", replicas=1)
ALL = Mode(name="both replicas", replicas=2)
SYNCED = Mode(name="both replicas, synced", replicas=2, aof="replicas")
MODES = (NOBODY, ONE, ALL, SYNCED)
