"""A login that fails is told by its cause, in words of ours: in the log's sentence, in readiness and by ``migrate``."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import hypothesis
import hypothesis.strategies as st
import psycopg2
import pytest

from dev import embedded_postgres
from function import errors, migrate, settings
from function.clients import postgres, postgres_errors
from tests import conftest
from tests.acceptance import processes

SECRETS = ("right-one", "wrong-one", "nobody_here", "nosuch_db", "nowhere.invalid", "FATAL", "pg_hba.conf entry for")
"""What a sentence must not hold: values of settings, and libpq's words."""
ROLES = """
CREATE ROLE app LOGIN PASSWORD 'right-one';
CREATE ROLE group_only PASSWORD 'right-one';
CREATE ROLE crowded LOGIN PASSWORD 'right-one' CONNECTION LIMIT 0;
"""
HBA = "local all postgres trust\n"
LOADED = "SELECT pg_conf_load_time()"
PASSWORD = "host all all 127.0.0.1/32 scram-sha-256\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_postgres.Postgres]:
    """A server that listens on TCP, with roles, and a database that nobody may connect to."""
    started = embedded_postgres.Postgres(tmp_path_factory.mktemp("login"), port=processes.free_port())
    started.start()
    conftest.execute(started.url(), ROLES)
    conftest.execute(started.url(), "CREATE DATABASE closed")
    conftest.execute(started.url(), "REVOKE CONNECT ON DATABASE closed FROM public")
    yield started
    started.stop()


@pytest.fixture
def hba(own: embedded_postgres.Postgres) -> Iterator[Callable[[str], None]]:
    """Set who may log in, besides postgres by the socket."""

    def write(lines: str) -> None:
        (own.data / "pg_hba.conf").write_text(HBA + lines)
        before = conftest.execute(own.url(), LOADED)
        conftest.execute(own.url(), "SELECT pg_reload_conf()")
        while conftest.execute(own.url(), LOADED) == before:
            time.sleep(0.01)

    yield write
    write(PASSWORD)


def environment(own: embedded_postgres.Postgres, **changed: str) -> dict[str, str]:
    """The settings of a login that is right, but for what is changed."""
    right = {"DB_HOST": "127.0.0.1", "DB_PORT": str(own.port), "DB_NAME": "postgres", "DB_USER": "app"}
    return {**right, "DB_PASSWORD": "right-one", **changed}


def told(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what readiness says of the database; ``migrate`` and an event must say the same, and no secret."""
    for name, value in environ.items():
        if name.startswith("PG"):
            monkeypatch.setenv(name, value)
    configuration = settings.Settings.from_env(environ)
    db = postgres.Database(configuration.database.connection(), timeout=5)
    with pytest.raises(errors.DatabaseUnavailable) as event:
        db.run(lambda cursor: cursor.execute("SELECT 1"))
    with pytest.raises(errors.DatabaseUnavailable) as command:
        migrate.run(configuration)
    sentence = db.state()
    assert str(event.value) == str(command.value) == sentence
    assert not [secret for secret in SECRETS if secret in sentence]
    return sentence.removeprefix("the database cannot be used now: ")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"DB_PASSWORD": "wrong-one"}, "login refused: the user or the password is wrong"),
        ({"DB_PASSWORD": ""}, "login refused: the user or the password is wrong"),
        ({"DB_USER": "nobody_here"}, "login refused: the user or the password is wrong"),
        ({"DB_USER": "group_only"}, "login refused: the server has no such user that may log in"),
        ({"DB_NAME": "nosuch_db"}, "no such database"),
        ({"DB_NAME": "closed"}, "login refused: this user may not connect to this database"),
        ({"DB_USER": "crowded"}, "too many connections"),
        ({"DB_HOST": "nowhere.invalid"}, "host not found"),
        ({"DB_HOST": "127.0.0.1\x0b"}, "host not found"),
        ({"DB_HOST": "127.0.0.1,nowhere.invalid", "DB_PASSWORD": "wrong-one"}, "login refused"),
        ({"DB_PORT": "1"}, "connection refused"),
        ({"DB_HOST": "/nowhere"}, "no socket"),
        ({"PGSSLMODE": "require"}, "no TLS: sslmode demands TLS"),
        ({"PGSSLMODE": "nonsense-right-one"}, "libpq does not understand a setting"),
        ({"PGTARGETSESSIONATTRS": "standby"}, "no server is as target_session_attrs demands"),
        ({"PGCHANNELBINDING": "require"}, "TLS failed"),
    ],
    ids=str,
)
def test_a_login_that_fails_says_why(
    changed: dict[str, str],
    words: str,
    own: embedded_postgres.Postgres,
    hba: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each cause has words of its own."""
    hba(PASSWORD)
    assert told(environment(own, **changed), monkeypatch).startswith(words)


@pytest.mark.parametrize(
    ("lines", "user", "words"),
    [
        ("", "app", "login refused: without TLS, the server's pg_hba.conf"),
        ("host all all 127.0.0.1/32 reject\n", "app", "login refused: without TLS, the server's pg_hba.conf"),
        ("host all all 10.0.0.0/8 scram-sha-256\n", "app", "login refused: without TLS, the server's pg_hba.conf"),
        ("host all all 127.0.0.1/32 trust\n", "nobody_here", "login refused: the server has no such user"),
        ("host all all 127.0.0.1/32 md5\n", "nobody_here", "login refused: the user or the password is wrong"),
        ("host all all 127.0.0.1/32 password\n", "group_only", "login refused: the server has no such user"),
        ("host all all 127.0.0.1/32 ident\n", "app", "login refused: the user or the password is wrong"),
    ],
)
def test_a_login_that_pg_hba_refuses_says_so(
    lines: str,
    user: str,
    words: str,
    own: embedded_postgres.Postgres,
    hba: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the method; a server that wants TLS refuses in this way too."""
    hba(lines)
    assert told(environment(own, DB_USER=user), monkeypatch).startswith(words)


def test_a_login_is_found_wrong_at_each_address(
    own: embedded_postgres.Postgres, hba: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One host refuses connections, the other the password: the password is what a person can correct."""
    hba(PASSWORD)
    url = f"postgresql://app:wrong-one@127.0.0.1:1,127.0.0.1:{own.port}/postgres"
    assert told({"DATABASE_URL": url}, monkeypatch).startswith("login refused: the user or the password is wrong")


NO_ENTRY = 'FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", {}\n'
AGAIN = 'connection to server at "h", port 5432 failed: ' + NO_ENTRY.format("no encryption")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NO_ENTRY.format("SSL encryption"), "login refused: with TLS"),
        (NO_ENTRY.format("SSL encryption") + AGAIN, "login refused: the server's pg_hba.conf"),
        ("FATAL:  connection requires a valid client certificate\n" + AGAIN, "client certificate not usable"),
        ('FATAL:  certificate authentication failed for user "u"\n', "client certificate not usable"),
        ("SSL error: tlsv1 alert protocol version\n", "TLS failed"),
        ("FATAL:  the database system is starting up\n", "the server is starting or stopping"),
        ("FATAL:  Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen\n", "login refused: the server's own log"),
    ],
)
def test_what_only_other_servers_say_is_known_too(text: str, words: str) -> None:
    """As libpq 17 wrote it of a Postgres 15 with TLS; this one is built without."""
    assert words in (postgres_errors.failed_connection(text) or "")


@hypothesis.given(text=st.text())
def test_no_word_of_libpq_is_shown(text: str) -> None:
    """Whatever it writes, known or not."""
    shown = str(postgres_errors.translate(psycopg2.OperationalError(text)))
    known = {f": {means}" for _, means in postgres_errors.FAILED_CONNECTIONS} | {" (operational error)"}
    assert shown.removeprefix(postgres_errors.UNUSABLE) in known


def test_too_many_connections_are_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all slots are taken but those of the superuser."""
    few = {"max_connections": "5", "superuser_reserved_connections": "1", "max_wal_senders": "0"}
    full = embedded_postgres.Postgres(tmp_path, port=processes.free_port(), settings=few)
    full.start()
    conftest.execute(full.url(), ROLES)
    (full.data / "pg_hba.conf").write_text(HBA + "local all all trust\n" + PASSWORD)
    conftest.execute(full.url(), "SELECT pg_reload_conf()")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.callback(psycopg2.connect(full.url(user="app")).close)
        assert told(environment(full), monkeypatch).startswith("too many connections")
    full.stop()


@pytest.mark.parametrize("name", ["DB_PASSWORD", "DB_USER", "DB_HOST", "DB_NAME", "DB_PORT"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_newline_at_the_end_is_cut_off(
    name: str, end: str, own: embedded_postgres.Postgres, hba: Callable[[str], None]
) -> None:
    """As ``echo`` without -n makes it, in a Secret; a warning names the variable."""
    hba(PASSWORD)
    environ = environment(own)
    environ[name] += end
    configuration = settings.Settings.from_env(environ)
    with contextlib.closing(psycopg2.connect(**configuration.database.connection())) as connection:
        assert not connection.closed
    assert settings.corrections(environ) == [f"{name} ends with a newline, which was cut off"]


def test_a_correction_is_in_the_log(
    own: embedded_postgres.Postgres, hba: Callable[[str], None], tmp_path: pathlib.Path
) -> None:
    """By the variable's name alone."""
    hba(PASSWORD)
    with processes.gunicorn(tmp_path / "log", environment(own, DB_PASSWORD="right-one\n")) as service:
        assert service.readiness()["database"] == postgres_errors.OUTDATED
        assert "DB_PASSWORD ends with a newline, which was cut off" in service.log()
        assert "right-one" not in service.log()


class Door:
    """TLS before a Postgres that has none: takes the TLS of each connection off and passes the rest on."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context, self._target = context, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(8)  # SSLRequest
            client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as inside,
                socket.create_connection(("127.0.0.1", self._target)) as server,
            ):
                threading.Thread(target=_copy, args=[server, inside], daemon=True).start()
                _copy(inside, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(65536):
            target.sendall(data)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with two certificates for localhost, each its own CA, and their keys."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def tls(own: embedded_postgres.Postgres, certificates: pathlib.Path) -> Iterator[Door]:
    """The server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    door = Door(context, own.port or 0)
    yield door
    door.close()


@pytest.mark.parametrize(
    ("host", "file", "words"),
    [
        ("localhost", "other.pem", "certificate not trusted"),
        ("127.0.0.1", "server.pem", "certificate for another host"),
        ("localhost", "server.key", "no CA certificates"),
        ("localhost", "missing.pem", "no CA certificates"),
    ],
)
def test_a_certificate_that_is_refused_is_named(
    host: str,
    file: str,
    words: str,
    tls: Door,
    own: embedded_postgres.Postgres,
    hba: Callable[[str], None],
    certificates: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong CA, a wrong host name, a file that holds no certificate."""
    hba(PASSWORD)
    verify = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(certificates / file)}
    assert told(environment(own, DB_HOST=host, DB_PORT=str(tls.port), **verify), monkeypatch).startswith(words)


def test_a_certificate_that_is_right_lets_us_in(
    tls: Door,
    own: embedded_postgres.Postgres,
    hba: Callable[[str], None],
    certificates: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So the refusals above are about the certificate; the password is asked for behind it."""
    hba(PASSWORD)
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(certificates / "server.pem"))
    monkeypatch.setenv("PGCHANNELBINDING", "disable")  # the server behind the door knows of no TLS
    environ = environment(own, DB_HOST="localhost", DB_PORT=str(tls.port))
    keywords = settings.Settings.from_env(environ).database.connection()
    assert postgres.Database(keywords, timeout=5).state() == postgres_errors.OUTDATED
    assert told({**environ, "DB_PASSWORD": "wrong-one"}, monkeypatch).startswith("login refused: the user or")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers at the database's host and port is not Postgres"),
        (b"", "the server closed the connection"),
    ],
)
def test_what_is_not_postgres_is_named(answer: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server on that port, or a load balancer without a server behind it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(8)
                    client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    environ = {"DB_HOST": "127.0.0.1", "DB_PORT": str(listener.getsockname()[1])}
    assert told(environ, monkeypatch).startswith(words)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter2@secret-tail@127.0.0.1/x",
        "postgresql://app:hunter2/secret-tail@127.0.0.1/x",
        "postgresql://app:hunter2@secret-tail/more@127.0.0.1:1/x",
        "postgresql://app:hunter2%secret-tail@127.0.0.1/x",
        "host=127.0.0.1 port=1 password=hunter2 secret-tail user=app",
        "host=127.0.0.1 port=1 password='hunter2secret-tail user=app",
        "postgresql://app:hunter2secret-tail@127.0.0.1:1,127.0.0.2:1/x?port=1,2,3",
        "postgresql://app:hunter2secret-tail@127.0.0.1:1/x?sslmode=secret-tail",
    ],
)
def test_a_url_that_is_wrong_is_never_shown(url: str, tmp_path: pathlib.Path) -> None:
    """Nor a part of it, by a command that a person runs."""
    command = [shutil.which("env") or "env", "-i", f"DATABASE_URL={url}", f"PATH={tmp_path}"]
    for name in ("migrate", "health"):
        done = subprocess.run(
            [*command, sys.executable, "-m", "function", name],
            cwd=processes.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode
        assert len(done.stderr.splitlines()) == 1
        assert not [word for word in ("hunter2", "secret", "tail", "more") if word in done.stdout + done.stderr]
