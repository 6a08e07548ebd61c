"""`python -m loadtest.faults.start up ...`: `reservasi`, with its embedded servers in a world that can be made to fail.

What the world is comes as JSON in the environment: `servers` is added to the environment of Valkey and PostgreSQL,
which otherwise get nothing of ours; `redis_url`, when it is not empty, is where worker and fronts find the ledger, and
the real address is written to `address_file`.
"""

import os
from pathlib import Path
from unittest.mock import patch

import msgspec

from reservasi.cli import whole_service
from reservasi.cli.main import main
from reservasi.cli.reloading import hand_out
from reservasi.embedded import embedded_redis_url, process
from reservasi.settings import Settings

WORLD_VARIABLE = "LOADTEST_WORLD"


class World(msgspec.Struct, frozen=True, kw_only=True):
    servers: dict[str, str] = {}
    redis_url: str = ""
    address_file: str = ""


def _enter(world: World) -> None:
    process.ENVIRONMENT.update(world.servers)
    if world.redis_url:
        redis_url = world.redis_url

        def hand_out_elsewhere(settings: Settings) -> None:
            userinfo, _, socket = embedded_redis_url(settings.data_dir).removeprefix("unix://").rpartition("@")
            Path(world.address_file).write_text(socket)
            hand_out(settings.model_copy(update={"redis_url": redis_url.replace("//", f"//{userinfo}@")}))

        patch.object(whole_service, "hand_out", hand_out_elsewhere).start()


if __name__ == "__main__":
    _enter(msgspec.json.decode(os.environ[WORLD_VARIABLE], type=World))
    main()
