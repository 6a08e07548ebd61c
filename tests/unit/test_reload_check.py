"""Any error during the check of a reload refuses the reload, and ends nothing."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from reservasi.cli.reload_check import refuse_reload
from reservasi.cli.whole_service import _Processes
from reservasi.errors import ConfigurationError
from reservasi.settings import load
from reservasi.supervisor import Supervisor

RIGHTS = asyncpg.InsufficientPrivilegeError("permission denied\nfor table programs")


def test_an_error_that_nobody_expects_refuses_the_reload_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: Any) -> None:
        raise RIGHTS

    monkeypatch.setattr("reservasi.cli.reload_check._open_stores", look)
    settings = load()
    with pytest.raises(ConfigurationError) as refused:
        refuse_reload(settings, settings, "front")
    expected = "a new process could not start: InsufficientPrivilegeError: permission denied for table programs"
    assert str(refused.value) == expected


@pytest.mark.parametrize("where", ["refuse_reload", "hand_out"])
def test_up_says_why_it_renews_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fail(*_: Any) -> None:
        raise RIGHTS

    monkeypatch.setattr("reservasi.logs.configure", lambda *_: None)
    settings = load(data_dir=tmp_path)
    processes = _Processes(settings, lambda: load(data_dir=tmp_path, shutdown_timeout_s=77))
    processes.prepare()
    monkeypatch.setattr("reservasi.cli.whole_service.refuse_reload", lambda *_: None)
    monkeypatch.setattr(f"reservasi.cli.whole_service.{where}", fail)

    async def reload() -> None:
        processes.renew(Supervisor())
        assert processes._renewal is not None
        await processes._renewal

    with capture_logs() as logs:
        asyncio.run(reload())
    (line,) = [each for each in logs if each["event"] == "settings_refused"]
    assert "InsufficientPrivilegeError" in line["reason"]
    assert processes.settings == settings
