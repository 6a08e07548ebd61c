"""`reservasi api` and `reservasi worker`: their flags; `front_serving` and `worker_serving` do the work."""

import typer

from reservasi.cli.output import AsJson, DataDir, PostgresDsn, RedisUrl, run_app
from reservasi.cli.service_flags import AdminPort, Host, PortFlag, Processes, Programs


def api(
    host: Host = None,
    port: PortFlag = None,
    admin_port: AdminPort = None,
    processes: Processes = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Run the HTTP fronts only; without a worker, confirmations stay "confirming"."""
    from reservasi.cli.reloading import begin
    from reservasi.metrics_directory import shared_metrics

    with shared_metrics():
        settings, read = begin(
            host=host,
            port=port,
            admin_port=admin_port,
            processes=processes,
            data_dir=data_dir,
            redis_url=redis_url,
            postgres_dsn=postgres_dsn,
            log_format="json" if as_json else None,
        )
        from reservasi.cli.front_serving import run_fronts

        run_fronts(settings, read)


def worker(
    admin_port: AdminPort = None,
    programs: Programs = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Run the recorder: journal to PostgreSQL, expired holds, admission, ownership of the ledger. Several are safe.

    With --programs for some programs; another worker must run for the others.
    """
    from reservasi.cli.reloading import begin
    from reservasi.cli.worker_serving import run_worker

    settings, read = begin(
        worker_admin_port=admin_port,
        programs=programs,
        data_dir=data_dir,
        redis_url=redis_url,
        postgres_dsn=postgres_dsn,
        log_format="json" if as_json else None,
    )
    run_worker(settings, read)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command("api")(api)
app.command("worker")(worker)

if __name__ == "__main__":
    run_app(app)
