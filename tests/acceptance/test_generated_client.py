"""A client generated from the OpenAPI document books a place and reads refusals of the real service."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from reservasi.front.api.openapi import openapi_document

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv" / "clients" / "bin"  # `make test` installs them from tests/clients/uv.lock
RUN_S = 120


async def run(*argv: str, env: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(RUN_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.timeout(2 * RUN_S + 10)
async def test_a_generated_client_books_and_reads_refusals(stack: Any, tmp_path: Path) -> None:
    document, target = tmp_path / "openapi.json", tmp_path / "client"
    document.write_text(json.dumps(openapi_document()))
    output = await run(
        str(TOOLS / "openapi-python-client"),
        *("generate", "--path", str(document), "--output-path", str(target)),
    )
    unreadable = [line for line in output.splitlines() if "Cannot parse" in line]
    assert [line for line in unreadable if "Unsupported content_type image/svg+xml" not in line] == []

    quota, full = await stack.quota(), await stack.quota(capacity=1)
    await stack.held(full)
    inherited = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}  # httpx wants none empty
    output = await run(
        str(TOOLS / "python"),
        str(ROOT / "tests" / "clients" / "book.py"),
        *(stack.url, quota, full, stack.nik(), stack.nik()),
        env={**inherited, "PYTHONPATH": str(target)},
    )
    read = json.loads(output.splitlines()[-1])
    assert read["status"] == "confirmed"
    assert len(read["booking_code"]) > 8
    assert read["duplicate"][0] == 409
    assert quota in read["alternatives"]
