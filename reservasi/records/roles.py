"""The database roles of running processes; `access.py` grants them their rights."""

FRONT_ROLE = "reservasi_front"
WORKER_ROLE = "reservasi_worker"
RUNTIME_ROLES = {"front": FRONT_ROLE, "worker": WORKER_ROLE}  # by the process's user of the ledger's server
