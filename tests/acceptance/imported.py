"""Stores without a running service, and an imported program with two offices."""

import datetime as dt
import itertools
import json
import secrets
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.cli.invocation import run
from reservasi.cli.main import app
from reservasi.model import Claim, Confirm, Find, Outcome, State
from reservasi.programs.expansion import minutes
from reservasi.settings import load

TODAY = dt.datetime.now(dt.timezone(dt.timedelta(hours=7))).date()
DAY = TODAY + dt.timedelta(days=10)
NEXT_DAY = DAY + dt.timedelta(days=1)
THIRD_DAY = DAY + dt.timedelta(days=2)
DATES = ("--from", str(DAY), "--to", str(NEXT_DAY))
SECRET_NAME, SECRET_NIK = "Siti Rahayu", "3578014101900001"
OFFICE = """
[[offices]]
id = "{id}"
name = {{ id = "Kantor {id}", en = "Office {id}" }}
address = "Jl. Contoh 1"
kind = "kanim"
slot_minutes = {slot_minutes}
services = ["baru"]
quotas = [{{ service = "baru", channel = "online", per_day = {per_day} }}]
[offices.hours]
mon = {{ open = "{open}", close = "{close}" }}
"""
NOW = 'rule = "now"'
ROOM = 'rule = "days-before"\ndays = 3\ntime = "{time}"\nwaiting_room = {{ joins_before_min = 30 }}'
HEAD = """
id = "{program}"
name = {{ id = "Uji", en = "Test" }}
timezone = "{timezone}"
[policies]
hold_s = {hold_s}
return_delay_min_s = 0
return_delay_max_s = 0
applicants_max = 5
{policies}
[opening]
{rule}
[holidays]
country = "ID"
closed_dates = [{closed}]
extra_dates = [{extra}]
[[services]]
id = "baru"
name = {{ id = "Paspor baru", en = "New passport" }}
[[channels]]
id = "online"
name = {{ id = "Daring", en = "Online" }}
public = {public}
"""


class Deployment:
    """Stores without a service, and a program of two offices that is imported by the command."""

    def __init__(self, program: str, file: Path) -> None:
        self.program = program
        self.file = file

    def write(
        self,
        *,
        slot_minutes: int = 60,
        per_day: int = 40,
        hold_s: int = 7200,
        offices: tuple[str, ...] = ("kanim", "ulp"),
        days: tuple[dt.date, ...] = (DAY, NEXT_DAY),
        hours: tuple[str, str] = ("08:00", "12:00"),
        closed: tuple[dt.date, ...] = (),
        rule: str = NOW,
        timezone: str = "Asia/Jakarta",
        public: bool = True,
        policies: str = "",
    ) -> None:
        extra = ", ".join(f'{{ date = {day}, hours_of = "mon" }}' for day in days)
        head = HEAD.format(
            program=self.program,
            hold_s=hold_s,
            policies=policies,
            public=str(public).lower(),
            rule=rule,
            timezone=timezone,
            extra=extra,
            closed=", ".join(str(day) for day in closed),
        )
        parts = [
            OFFICE.format(id=id_, slot_minutes=slot_minutes, per_day=per_day, open=hours[0], close=hours[1])
            for id_ in offices
        ]
        self.file.write_text(head + "".join(parts))

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(app, words)

    def json(self, *words: str, code: int = 0) -> Any:
        done = self.call(*words, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def imports(self, *words: str, code: int = 0) -> Any:
        return self.json("program", "import", str(self.file), *(words or DATES), code=code)

    def quota(self, start: str = "0800", office: str = "kanim", day: dt.date = DAY) -> str:
        return f"{self.program}.{office}.baru.{day:%Y%m%d}.{start}.online"

    def show(self, quota: str) -> Any:
        return self.json("quota", "show", quota)

    def open_windows(self, office: str = "kanim", day: dt.date = DAY) -> list[tuple[str, str, int]]:
        """Those that can be claimed; of one line they never overlap."""
        rows = [
            each
            for each in self.json("quota", "show", self.program)
            if (each["office"], each["date"], each["closed"]) == (office, str(day), False)
        ]
        windows = sorted((each["start"], each["end"], each["capacity"]) for each in rows)
        for (_, end, _), (start, _, _) in itertools.pairwise(windows):
            assert minutes(end) <= minutes(start)
        return windows

    def reserve(self, quota: str, *, confirm: bool = True, places: int = 1) -> str:
        async def work() -> str:
            async with open_operations(load()) as operations, open_program(operations, self.program) as group:
                persons = [operations.sealing.person(self.program, secrets.token_hex(8)) for _ in range(places)]
                id_ = operations.sealing.reservation_id(self.program, persons[0], "key")
                secret = json.dumps({"applicants": [{"name": SECRET_NAME, "nik": SECRET_NIK}]}).encode()
                claim = Claim(
                    reservation_id=id_,
                    quota=quota,
                    fingerprint="f",
                    sealed=operations.sealing.seal(id_, secret),
                    persons=tuple(persons),
                )
                assert (await group.submit(claim)).outcome is Outcome.HELD
                if confirm:
                    await group.submit(Confirm(reservation_id=id_))
                return id_

        return run(work())

    def state(self, reservation: str) -> State | None:
        async def work() -> State | None:
            async with open_operations(load()) as operations, open_program(operations, self.program) as group:
                return (await group.submit(Find(reservation_id=reservation))).state

        return run(work())

    def stored_offices(self) -> list[str]:
        async def work() -> list[str]:
            async with open_operations(load()) as operations:
                return [office.id for office in (await operations.program(self.program)).offices]

        return run(work())

    def stopped(self) -> Any:
        """An import that would do more than add changes nothing, and says what it would do."""
        before = self.json("quota", "show", self.program), self.stored_offices()
        plan = self.imports(code=3)
        assert not plan["applied"]
        assert "--apply" in plan["error"]
        assert (plan["created"], plan["changed"], plan["closed"]) == (0, 0, 0)
        assert (self.json("quota", "show", self.program), self.stored_offices()) == before
        return plan

    def is_settled(self) -> None:
        """The same import again changes nothing and succeeds."""
        before = self.json("quota", "show", self.program)
        again = self.imports()
        assert again["created"] == again.get("changed", 0) == again.get("closed", 0) == 0
        assert self.json("quota", "show", self.program) == before
