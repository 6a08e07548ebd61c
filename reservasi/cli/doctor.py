"""`reservasi doctor`: checks the installation; `examination` does the work."""

import typer

from reservasi.cli.invocation import configured, run
from reservasi.cli.output import EXIT_FAILED, AsJson, DataDir, PostgresDsn, RedisUrl, out, print_json


def doctor(
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn_: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation; exit 1 when a check fails."""
    from reservasi.cli.examination import examine

    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn_)
    findings = run(examine(settings))
    if as_json:
        print_json({"ok": all(finding.ok for finding in findings), "findings": findings})
    else:
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[bold red]bad [/]"
            where = f" [dim]({finding.server})[/]" if finding.server else ""
            out.print(f"{mark} [dim]{finding.check:<20}[/] {finding.said}{where}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_FAILED)
