"""A front raises its limit of open files to the account's maximum."""

import subprocess
import sys

import pytest

RAISED = """
import resource
from reservasi.cli.front_serving import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
raise_open_files({wanted})
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("wanted", "warned"), [(1000, False), (20_000, True)])
def test_the_limit_of_open_files_is_raised_and_a_low_one_is_said(wanted: int, warned: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RAISED.format(wanted=wanted)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "4096"
    assert ("too_few_open_files" in done.stdout + done.stderr) is warned
