"""TLS to both stores, with certificates of a CA of the test's own.

The servers that we ship have no TLS, being reached through sockets of the same machine; so a proxy here speaks it in
front of them, as their own servers would, and what is tried is our side: settings, and who is refused.
"""

import asyncio
import datetime as dt
import ipaddress
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loadtest.bench.ports import free_port, wait_listening
from loadtest.scale_out.cluster import local_cluster
from reservasi.embedded.binaries import valkey_binary
from reservasi.embedded.places import POSTGRES_SOCKET_NAME
from reservasi.embedded.process import dies_with_us
from reservasi.errors import LedgerUnreachable, RecordsUnavailable
from reservasi.ledger.access import FRONT, WORKER
from reservasi.ledger.connection import LedgerConnection, open_client
from reservasi.ledger.library import read_library
from reservasi.ledger.servers import Servers
from reservasi.records import Records
from reservasi.records.upgrades import check, upgrade
from tests.users import as_user

START_TIMEOUT_S = 30
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # PostgreSQL's question whether the server speaks TLS


class Authority:
    """A CA, and what it signed, as files."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(self._signed(self._name, self._key.public_key(), ca=True))

    def issue(self, name: str, address: str = "127.0.0.1") -> tuple[str, str]:
        """The files of a certificate for an address and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, private = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(self._signed(subject, key.public_key(), address=address))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        private.chmod(0o600)  # asyncpg, as libpq, refuses a key that others can read
        return str(certificate), str(private)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool = False, address: str = ""
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if address:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class TlsServer:
    """Speaks TLS to clients that have a certificate, and passes on to a unix socket or a port what they say."""

    def __init__(self, target: Path | int, context: ssl.SSLContext, *, asked_first: bool) -> None:
        self._target = target
        self._context = context
        self._asked_first = asked_first  # as PostgreSQL is: the connection begins without TLS
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "TlsServer":
        at_once = None if self._asked_first else self._context
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=at_once)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._asked_first:
                if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                    return  # a server that wants TLS hangs up on whoever begins without
                writer.write(b"S")
                await writer.start_tls(self._context)
            if isinstance(self._target, Path):
                server_reader, server_writer = await asyncio.open_unix_connection(str(self._target))
            else:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_pump(reader, server_writer), _pump(server_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            return  # the client did not like us, or we not the client
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """Of servers that let nobody in without a certificate of ours."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(*authority.issue("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest_asyncio.fixture
async def ledger_port(valkey_url: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    async with TlsServer(Path(urlsplit(valkey_url).path), context, asked_first=False) as server:
        yield server.port


@pytest_asyncio.fixture
async def records_port(valkey_url: str, postgres_dsn: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    directory = Path(postgres_dsn.partition("host=")[2].replace("%2F", "/"))
    async with TlsServer(directory / POSTGRES_SOCKET_NAME, context, asked_first=True) as server:
        yield server.port


async def test_the_ledger_over_tls_with_a_password_and_a_certificate(
    ledger_port: int, valkey_url: str, authority: Authority, tmp_path: Path, program: str
) -> None:
    certificate, key = authority.issue("front")
    url = f"rediss://{urlsplit(as_user(valkey_url, FRONT)).netloc.rstrip('@')}@127.0.0.1:{ledger_port}"
    ours = f"{url}?ssl_ca_certs={authority.ca}&ssl_certfile={certificate}&ssl_keyfile={key}"
    client = open_client(ours)
    assert await client.ping()
    await client.aclose()
    worker_url = ours.replace(
        urlsplit(url).netloc.rpartition("@")[0], urlsplit(as_user(valkey_url, WORKER)).netloc[:-1]
    )
    worker = LedgerConnection(worker_url, program, read_library())
    assert (await worker.meta(5)).position.seq == 0
    assert await worker.snapshot(5) is None
    await worker.drop()
    stranger = Authority(tmp_path, "stranger")
    elsewhere = ours.replace("127.0.0.1", "localhost")  # the certificate is another name's
    for refused in (
        ours.replace(str(authority.ca), str(stranger.ca)),
        f"{url}?ssl_ca_certs={authority.ca}",  # no certificate of ours
        elsewhere,
        ours.replace("rediss://", "redis://").partition("?")[0],
        f"rediss://front:wrong@127.0.0.1:{ledger_port}?{ours.partition('?')[2]}",
    ):
        connection = LedgerConnection(refused, program, read_library())
        with pytest.raises(LedgerUnreachable):
            await connection.meta(5)
        await connection.drop()


async def _refused(url: str, program: str) -> None:
    """Whoever does not prove themselves, or asks somebody who cannot, gets nothing."""
    connection = LedgerConnection(url, program, read_library())
    with pytest.raises(LedgerUnreachable):
        await connection.meta(5)
    await connection.drop()


async def test_a_cluster_over_tls_to_whom_its_servers_announce(
    context: ssl.SSLContext, authority: Authority, tmp_path: Path, program: str
) -> None:
    certificate, key = authority.issue("front")
    async with (
        local_cluster(1, replicas=0) as cluster,
        TlsServer(cluster.primaries[0].port, context, asked_first=False) as server,
    ):
        await cluster.primaries[0].ask("CONFIG", "SET", "cluster-announce-port", server.port)
        proof = f"ssl_ca_certs={authority.ca}&ssl_certfile={certificate}&ssl_keyfile={key}"
        servers = Servers(f"clusters://127.0.0.1:{server.port}?{proof}")
        connection = LedgerConnection(servers.of(program), program, read_library())
        assert (await connection.meta(5)).position.seq == 0
        assert await servers.client_of(program).ping()
        assert [each.name for each in await servers.primaries()] == [f"127.0.0.1:{server.port}"]
        await connection.drop()
        await servers.close()

        stranger = Authority(tmp_path, "stranger")
        for asked in (f"ssl_ca_certs={authority.ca}", proof.replace(str(authority.ca), str(stranger.ca)), ""):
            refused = Servers(f"clusters://127.0.0.1:{server.port}?{asked}")
            connection = LedgerConnection(refused.of(program), program, read_library())
            with pytest.raises(LedgerUnreachable):
                await connection.meta(5)
            await connection.drop()
            await refused.close()


async def test_sentinels_and_their_primary_over_tls(
    ledger_port: int, valkey_url: str, context: ssl.SSLContext, authority: Authority, program: str
) -> None:
    certificate, key = authority.issue("front")
    port = free_port()
    directory = authority.ca.parent
    configuration = directory / "sentinel.conf"
    configuration.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor ledger 127.0.0.1 {ledger_port} 1\n")
    process = await asyncio.create_subprocess_exec(
        valkey_binary(),
        configuration,
        "--sentinel",
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=dies_with_us(signal.SIGKILL),
    )
    try:
        await wait_listening(port, START_TIMEOUT_S)
        async with TlsServer(port, context, asked_first=False) as sentinel:
            proof = f"ssl_ca_certs={authority.ca}&ssl_certfile={certificate}&ssl_keyfile={key}"
            credentials = urlsplit(as_user(valkey_url, FRONT)).netloc
            url = f"sentinels://{credentials}127.0.0.1:{sentinel.port}/ledger?{proof}"
            connection = LedgerConnection(url, program, read_library())
            assert (await connection.meta(5)).position.seq == 0
            await connection.drop()
            stranger = Authority(directory, "stranger")
            await _refused(url.replace("sentinels://", "sentinel://").partition("?")[0], program)
            await _refused(url.replace(str(authority.ca), str(stranger.ca)), program)
            await _refused(f"{url.partition('?')[0]}?ssl_ca_certs={authority.ca}", program)
    finally:
        process.kill()
        await process.wait()


async def test_the_records_over_tls_with_verify_full(
    records_port: int, database: str, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("worker")
    name = urlsplit(database).path.lstrip("/")
    dsn = f"postgresql://reservasi@127.0.0.1:{records_port}/{name}"
    ours = f"{dsn}?sslmode=verify-full&sslrootcert={authority.ca}&sslcert={certificate}&sslkey={key}"
    assert (await upgrade(ours)).up_to_date
    records = await Records.open(ours, 1)
    await records.ping()
    async with records.lead("p") as lead:
        assert await lead.take()
    await records.close()
    stranger = Authority(tmp_path, "stranger")
    for refused in (
        ours.replace(str(authority.ca), str(stranger.ca)),
        f"{dsn}?sslmode=verify-full&sslrootcert={authority.ca}",  # no certificate of ours
        ours.replace("127.0.0.1", "localhost"),  # the certificate is another name's
        f"{dsn}?sslmode=disable",
    ):
        with pytest.raises(RecordsUnavailable):
            await check(refused)
        with pytest.raises(RecordsUnavailable):
            await Records.open(refused, 1)
