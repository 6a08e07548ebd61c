"""What all variants stand on: where the stores are, which core is whose, and the program to claim in."""

from dataclasses import dataclass
from pathlib import Path

from loadtest.stage.cores import Cores
from reservasi.settings import Settings

PROGRAM = "bench"
CAPACITY = 50_000  # places in each quota: more than any run can claim
SMALL_OFFICE = "kecil"  # with few places: what is read, and what is sold out
PROGRAM_FILE = f"""
id = "{PROGRAM}"
name = {{ id = "Uji kecepatan", en = "Benchmark" }}
timezone = "Asia/Jakarta"

[policies]
hold_s = 7200
return_delay_min_s = 0
return_delay_max_s = 0
applicants_max = 5

[opening]
rule = "now"

[holidays]
country = "ID"

[[services]]
id = "baru"
name = {{ id = "Paspor baru", en = "New passport" }}

[[channels]]
id = "online"
name = {{ id = "Daring", en = "Online" }}
public = true

[[offices]]
id = "kanim"
name = {{ id = "Kantor uji", en = "Bench office" }}
address = "-"
kind = "kanim"
slot_minutes = 10
services = ["baru"]
quotas = [{{ service = "baru", channel = "online", per_slot = {CAPACITY} }}]

[offices.hours]
mon = {{ open = "08:00", close = "16:20" }}
tue = {{ open = "08:00", close = "16:20" }}
wed = {{ open = "08:00", close = "16:20" }}
thu = {{ open = "08:00", close = "16:20" }}
fri = {{ open = "08:00", close = "16:20" }}

[[offices]]
id = "{SMALL_OFFICE}"
name = {{ id = "Kantor kecil", en = "Small office" }}
address = "-"
kind = "kanim"
slot_minutes = 60
services = ["baru"]
quotas = [{{ service = "baru", channel = "online", per_slot = 1 }}]

[offices.hours]
mon = {{ open = "08:00", close = "16:00" }}
tue = {{ open = "08:00", close = "16:00" }}
wed = {{ open = "08:00", close = "16:00" }}
thu = {{ open = "08:00", close = "16:00" }}
fri = {{ open = "08:00", close = "16:00" }}
"""


@dataclass(frozen=True)
class Ground:
    """What all variants stand on."""

    settings: Settings  # of our own service; says where the stores are
    redis_url: str
    postgres_dsn: str
    cores: Cores
    quotas: tuple[str, ...]  # ids that the claims name
    small_quotas: tuple[str, ...]  # ids of those with a single place, which only the measured reads name
    capacity: int  # places in each of `quotas`
    log_dir: Path  # what the processes print
    store_pids: dict[str, int]  # the stores by what they are
    answer_bytes: int  # size of our own answer to a claim; 0 while our own variant starts
