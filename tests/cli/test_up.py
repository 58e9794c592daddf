"""What `winnow up` refuses before it starts anything, and the keys that it makes."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from cli import certificates
from cli.main import app
from cli.own import UpSettings
from cli.serve import ServeError, bind
from cli.up import House, UpError, _metrics_addresses, believing, migrate
from runtime.config import load
from runtime.matching import CACHE
from runtime.tls import Files

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "SECRETS_DIR", "DATABASE_URL", "SEALING_KEY"):
        monkeypatch.delenv(f"WINNOW_{name}", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    "address", ["", "8080", ":8080", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:65536", "h:٣", "::1"]
)
def test_an_address_reads_host_and_port(address: str) -> None:
    with pytest.raises(ServeError, match="must be host:port"):
        bind(address)


def test_a_free_port_and_a_taken_one() -> None:
    with bind("127.0.0.1:0") as bound:
        host, port = bound.getsockname()
        assert (host, bound.family) == ("127.0.0.1", socket.AF_INET)
        with pytest.raises(ServeError) as caught:
            bind(f"127.0.0.1:{port}")
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_metrics_have_a_port_each() -> None:
    assert _metrics_addresses(None) == {}
    found = {name: one["WINNOW_METRICS_LISTEN"] for name, one in _metrics_addresses("h:7").items()}
    assert list(found.values()) == ["h:7", "h:8", "h:9", "h:10", "h:11"]
    assert list(found) == ["gateway", "orchestrator", "ingestor", "moderator", "audit"]
    anywhere = _metrics_addresses("[::1]:0")
    assert {one["WINNOW_METRICS_LISTEN"] for one in anywhere.values()} == {"[::1]:0"}
    for address in ("9464", "127.0.0.1:65533"):
        with pytest.raises(ServeError, match="must be host:port"):
            _metrics_addresses(address)


def test_an_ipv6_address() -> None:
    try:
        bound = bind("[::1]:0")
    except ServeError:
        pytest.skip("this machine has no IPv6")
    with bound:
        assert bound.family == socket.AF_INET6


def test_keys_are_made_once_and_only_for_their_owner(tmp_path: Path) -> None:
    house = House(tmp_path, "127.0.0.1:0", UpSettings())
    folder = house._make_keys()
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == {
        "winnow_sealing_key",
        "winnow_fingerprint_key",
        "winnow_audit_signing_key",
        "postgres_password",
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, text in made.items():
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert name == "postgres_password" or len(base64.b64decode(text)) == 32
    assert len(set(made.values())) == 4
    house._make_keys()
    assert made == {path.name: path.read_text() for path in folder.iterdir()}


def test_compiled_patterns_are_kept_beside_the_keys_unless_said_otherwise(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_DATABASE_URL", database_url)
    house = House(tmp_path, "127.0.0.1:0", load(UpSettings))
    monkeypatch.setenv(CACHE, "/elsewhere")
    house._prepare()
    assert house._environment[CACHE] == "/elsewhere"
    monkeypatch.delenv(CACHE)
    house._prepare()
    assert house._environment[CACHE] == str(tmp_path / "cache")


def test_a_key_that_is_given_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file would come before the TOML file that gives it."""
    file = tmp_path / "winnow.toml"
    file.write_text(f"sealing_key = '{KEY}'\ndatabase_url = 'postgresql://h/d'\n")
    monkeypatch.setenv("WINNOW_CONFIG", str(file))
    given = UpSettings()
    assert given.database_url == SecretStr("postgresql://h/d")
    folder = House(tmp_path, "127.0.0.1:0", given)._make_keys()
    assert not (folder / "winnow_sealing_key").exists()
    assert (folder / "winnow_fingerprint_key").exists()


def test_the_gateways_own_certificate_is_the_one_believed(tmp_path: Path) -> None:
    """To see whether it is ready; its CA and its hosts are others' business."""
    certificates.init(tmp_path / "c", [], [], 365, 3650)
    served, other = (
        Files({name: tmp_path / "c" / service / f"{name}.pem" for name in ("cert", "key")})
        for service in ("gateway", "audit")
    )
    context = believing(tmp_path / "c" / "gateway" / "cert.pem")
    assert shaken(context, served.https())
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(context, other.https())
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(believing(None), served.https())


def shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    """Whether the two come to terms, for a host that is not in the certificate."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(back, there, server_hostname="elsewhere.example"),
        server.wrap_bio(there, back, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].version() is not None


def test_half_a_certificate_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_GATEWAY_TLS_KEY", "key.pem")
    result = run("up", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    assert (result.exit_code, result.stderr) == (
        2,
        "winnow: set all of WINNOW_GATEWAY_TLS_CERTIFICATE, WINNOW_GATEWAY_TLS_KEY, or none\n",
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("canary", "is not a database URL"),
        ("postgresql://u:canary@h:port/d", "is not a database URL"),
        ("postgresql://u:canary@127.0.0.1:9/d", "does not answer"),
        ("postgresql://u:canary@/d?host=/nowhere", "does not answer"),
    ],
)
def test_a_wrong_database_is_told_without_its_url(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UpError, match=said) as caught:
        migrate(url)
    assert "canary" not in str(caught.value)
    monkeypatch.setenv("WINNOW_DATABASE_URL", url)
    result = run("migrate")
    assert result.exit_code == 2
    assert result.stderr == f"winnow: {caught.value}\n"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_where_others_can_call_keys_are_needed(listen: str, tmp_path: Path) -> None:
    result = run("up", "--auth", "none", "--listen", listen, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "WINNOW_AUTH: none is for addresses that only this machine reaches" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_migrate_needs_a_database() -> None:
    result = run("migrate")
    assert (result.exit_code, result.stderr) == (
        2,
        "winnow: set WINNOW_DATABASE_URL to the database to migrate\n",
    )


def test_migrate_twice(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_DATABASE_URL", database_url)
    first, second = run("migrate"), run("migrate")
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    assert first.stdout.startswith("at revision ")


@pytest.mark.parametrize("command", [("up", "--listen", "127.0.0.1:0"), ("serve", "audit")])
def test_an_unknown_setting_is_refused(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_SEALING_KEI", "canary")
    more = ("--data-dir", str(tmp_path)) if command[0] == "up" else ()
    result = run(*command, *more)
    assert (result.exit_code, result.stderr) == (
        2,
        "winnow: unknown setting WINNOW_SEALING_KEI; did you mean WINNOW_SEALING_KEY?\n",
    )


def test_serve_names_what_is_missing() -> None:
    result = run("serve", "orchestrator")
    assert result.exit_code == 2
    assert "WINNOW_DATABASE_URL: Field required" in result.stderr
    assert "WINNOW_SEALING_KEY: Field required" in result.stderr
    assert run("serve", "nothing").exit_code == 2


@pytest.mark.parametrize("service", ["audit", "orchestrator"])
def test_a_service_tells_of_a_wrong_database_as_up_does(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEALING_KEY", "AUDIT_SIGNING_KEY"):
        monkeypatch.setenv(f"WINNOW_{name}", KEY)
    for url in ("canary", "postgresql://u:canary@h:port/d"):
        monkeypatch.setenv("WINNOW_DATABASE_URL", url)
        result = run("serve", service)
        assert (result.exit_code, result.stderr) == (
            2,
            "winnow: WINNOW_DATABASE_URL is not a database URL "
            "(postgresql://user:password@host/name)\n",
        )


def test_a_port_for_metrics_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with bind("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        words = ("--listen", "127.0.0.1:0", "--metrics", f"127.0.0.1:{port - 1}")
        result = run("up", *words, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("listen", "certificate", "told"),
    [
        ("127.0.0.1:0", None, False),
        ("0.0.0.0:0", None, True),
        ("0.0.0.0:0", Path("cert.pem"), False),
    ],
)
def test_keys_in_the_clear_are_told(
    tmp_path: Path, listen: str, certificate: Path | None, told: bool
) -> None:
    house = House(tmp_path, listen, UpSettings(auth="keys", gateway_tls_certificate=certificate))
    house._keys_needed = True
    with bind(listen) as house._socket:
        assert ("keys travel in the clear" in house._let_in()) is told
