"""The doctor checks each primary of a cluster and names it in its findings."""

from pathlib import Path

from loadtest.stage.cluster import local_cluster
from reservasi.bootstrap.commands import Operations, open_operations
from reservasi.cli.findings import Finding, server_findings
from reservasi.ledger.lua.library import read_library
from reservasi.settings import Settings


def _bad(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.check, finding.server) for finding in findings if not finding.ok}


async def test_each_primary_is_looked_at_and_what_is_wrong_with_one_is_said_of_it(
    database: str, data_dir: Path
) -> None:
    async with local_cluster(replicas=0) as cluster:
        first, second, third = cluster.primaries
        names = [f"127.0.0.1:{node.port}" for node in cluster.primaries]
        settings = Settings(redis_url=cluster.url, postgres_dsn=database, data_dir=data_dir)
        async with open_operations(settings) as operations:
            well = await server_findings(operations)
            assert _bad(well) == set()
            assert {finding.server for finding in well if finding.check == "fsync"} == set(names)

            await first.ask("CONFIG", "SET", "appendfsync", "everysec")
            await second.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            await third.ask("FUNCTION", "LOAD", read_library().source)
            sick = await server_findings(operations)
            assert _bad(sick) == {("fsync", names[0]), ("eviction", names[1])}
            loaded = {each.server: each.said for each in sick if each.check == "functions"}
            assert ["is loaded" in loaded[name] for name in names] == [False, False, True]

            third.kill()
            await cluster.until(lambda: _is_missed(operations))

        short = settings.model_copy(update={"replicas_min_ack": 1})
        async with open_operations(short) as operations:
            assert {("replicas", name) for name in names[:2]} <= _bad(await server_findings(operations))


async def _is_missed(operations: Operations) -> bool:
    """Whether a dead primary is told of: as a server that does not answer, then as slots that nobody serves."""
    bad = {check for check, _ in _bad(await server_findings(operations))}
    return "cluster slots" in bad
