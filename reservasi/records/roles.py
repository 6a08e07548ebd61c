"""The database roles of running processes; `access.py` grants their rights."""

FRONT_ROLE = "reservasi_front"
WORKER_ROLE = "reservasi_worker"
RUNTIME_ROLES = {"front": FRONT_ROLE, "worker": WORKER_ROLE}  # by the user name of the process at the ledger's server
