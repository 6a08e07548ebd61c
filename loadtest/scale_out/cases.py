"""What is compared: every case differs from the base in one respect."""

from dataclasses import dataclass

PROGRAMS = 6
ONE = (1,)  # a single program, which cannot be split
UNEVEN = (50, 20, 10, 10, 5, 5)  # one office that half the country wants


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is claimed in how many programs, where they lie, and which other processes are there."""

    name: str
    group: str
    primaries: int = 1
    replicas: int = 0  # of each primary
    acks: int = 0  # replicas that must have a claim before it is promised
    followers: int = 0  # fronts that follow every program, besides the one that claims
    shares: tuple[int, ...] = (1,) * PROGRAMS  # of the claims, by program; the programs lie on the primaries in turn
    batch: int = 64  # claims in one call
    confirms: bool = False  # the confirmations are measured, not the claims before them


BASE = Case(name="6 programs, 1 primary, 64 claims a call", group="base")
ALONE = Case(name="1 program, 1 claim a call", group="batches", shares=ONE, batch=1)
CONFIRMED_ALONE = Case(name="1 program, 1 confirmation a call", group="batches", shares=ONE, batch=1, confirms=True)
CASES = (
    BASE,
    Case(name="2 primaries", group="primaries", primaries=2),
    Case(name="3 primaries", group="primaries", primaries=3),
    Case(name="3 primaries, shares of 50, 20, 10, 10, 5, 5 %", group="primaries", primaries=3, shares=UNEVEN),
    *(
        Case(name=f"1 program, {batch} claims a call", group="batches", shares=ONE, batch=batch)
        for batch in (256, 128, 32, 8)
    ),
    ALONE,
    *(
        Case(name=f"1 program, {batch} confirmations a call", group="batches", shares=ONE, batch=batch, confirms=True)
        for batch in (256, 32)
    ),
    CONFIRMED_ALONE,
    Case(name="1 replica", group="replicas", replicas=1),
    Case(name="1 replica, which must acknowledge", group="replicas", replicas=1, acks=1),
    Case(name="2 replicas", group="replicas", replicas=2),
    Case(name="2 replicas, which must acknowledge", group="replicas", replicas=2, acks=2),
    *(Case(name=f"followed by {count} more", group="followers", followers=count) for count in (1, 4, 16)),
)
IDLE = "idle"
REST, WANTED = "at rest", "sold out and still asked for"
IDLE_WAYS = {REST: False, WANTED: True}  # whether people ask for what is sold out all the time
IDLE_FRONTS = 16
GROUPS = ("primaries", "batches", "replicas", "followers", IDLE)
