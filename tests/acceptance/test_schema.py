"""The whole OpenAPI document against the running service, with every check of schemathesis."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.waiting import create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")

HERE = Path(__file__).parent
EXAMPLES_MAX = 25
RUN_S = 300  # many times what it takes, but on a machine that does much else


@pytest.mark.timeout(RUN_S + 10)
async def test_no_server_error_and_no_undocumented_answer(stack: Any, tmp_path: Path) -> None:
    held = await stack.held(await stack.quota())
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "schema_hooks",
        "PYTHONPATH": str(HERE),
        "RESERVASI_TEST_QUOTA": await stack.quota(capacity=100_000),
        "RESERVASI_TEST_OPENING": (await create_room(stack)).id,
        "RESERVASI_TEST_RESERVATION": held["id"],
        "RESERVASI_TEST_MANAGE_TOKEN": held["manage_token"],
        "RESERVASI_TEST_API_KEY": stack.operator_key,
    }
    arguments = ["--config-file", str(HERE / "schemathesis.toml"), "run", f"{stack.url}/openapi.json"]
    arguments += ["--max-examples", str(EXAMPLES_MAX), "--generation-deterministic", "--no-color"]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *arguments,
        env=environment,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()
