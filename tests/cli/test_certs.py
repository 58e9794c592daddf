"""`winnow certs`: what it makes, what it refuses, and what it never overwrites."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from typer.testing import CliRunner, Result

from cli import certificates
from cli.main import app
from tests import certificates as papers


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["certs", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "certs"
    done = run("init", made, "--host", "w.example", "--host", "audit=10.0.0.7", "--tool", "ci")
    assert done.exit_code == 0, done.stderr
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def loaded(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def test_each_process_has_a_folder_that_only_its_owner_reads(folder: Path) -> None:
    names = {*certificates.SERVICES, "tool/ci"}
    expected = {f"{name}/{file}.pem" for name in names for file in ("cert", "key", "ca")}
    assert set(contents(folder)) == {*expected, "ca/ca.key", "ca/ca.pem"}
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_the_ca_signs_leaves_and_no_other_ca(folder: Path) -> None:
    ca = loaded(folder / "ca" / "ca.pem")
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert ca.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3649)


def test_what_a_service_is_called_and_may_do(folder: Path) -> None:
    audit = {one.name: one for one in certificates.issued(folder)}["audit"]
    assert audit.identity == "spiffe://winnow/audit"
    assert set(audit.hosts) == {"audit", "localhost", "127.0.0.1", "::1", "w.example", "10.0.0.7"}
    leaf = loaded(folder / "audit" / "cert.pem")
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert timedelta(days=364) < leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=366)


def test_a_host_of_one_service_is_no_others(folder: Path) -> None:
    hosts = {one.name: one.hosts for one in certificates.issued(folder)}
    assert [name for name, names in hosts.items() if "10.0.0.7" in names] == ["audit"]
    assert [name for name, names in hosts.items() if "audit" in names] == ["audit"]


def test_a_tool_calls_and_is_not_called(folder: Path) -> None:
    tool = {one.name: one for one in certificates.issued(folder)}["tool/ci"]
    assert (tool.identity, tool.hosts) == ("spiffe://winnow/tool/ci", ())
    leaf = loaded(folder / "tool" / "ci" / "cert.pem")
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize("name", certificates.SERVICES)
def test_the_chain_holds_as_rfc_5280_has_it(name: str, folder: Path) -> None:
    store = Store([loaded(folder / name / "ca.pem")])
    leaf = loaded(folder / name / "cert.pem")
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
    assert verifier.verify(leaf, [])[0] == leaf
    assert PolicyBuilder().store(store).build_client_verifier().verify(leaf, []).subjects


def test_nothing_is_overwritten(folder: Path) -> None:
    before = contents(folder)
    again = run("init", folder)
    assert again.exit_code == 2
    assert "is not empty, and nothing is overwritten" in again.stderr
    (folder / "ca" / "ca.key").unlink()
    (folder / "ca" / "ca.pem").unlink()
    assert run("init", folder).exit_code == 2
    del before["ca/ca.key"], before["ca/ca.pem"]
    assert contents(folder) == before


def test_renewing_makes_new_keys_for_the_same_names(folder: Path) -> None:
    before = contents(folder)
    named = {one.name: (one.identity, one.hosts) for one in certificates.issued(folder)}
    done = run("renew", folder, "audit", "tool/ci", "--days", "90")
    assert done.exit_code == 0, done.stderr
    after = contents(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        f"{name}/{file}.pem" for name in ("audit", "tool/ci") for file in ("cert", "key")
    }
    again = {one.name: (one.identity, one.hosts) for one in certificates.issued(folder)}
    assert again == named
    assert run("renew", folder).exit_code == 0
    renewed = contents(folder)
    assert {name for name in renewed if renewed[name] == after[name]} == {
        name for name in after if name.startswith("ca/") or name.endswith("/ca.pem")
    }


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    certificates.init(tmp_path / "c", [], [], days=365, ca_days=10)
    ends = {one.lifetime.ends for one in certificates.issued(tmp_path / "c")}
    assert max(ends) - min(ends) < timedelta(minutes=1)


def test_what_ends_soon_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("show", folder).stderr == ""
    # Half of its time is left.
    certificates.renew(folder, ["moderator"], 1)
    monkeypatch.setattr(certificates, "_SKEW", timedelta(days=30))
    certificates.renew(folder, ["audit"], 31)
    certificates.renew(folder, ["ingestor"], 10)
    certificates.renew(folder, ["tool/ci"], 1)
    certificates.renew(folder, ["gateway"], -1)
    shown = run("show", folder)
    assert shown.exit_code == 1
    certificates.renew(folder, ["gateway"], 365)
    assert run("show", folder).exit_code == 0, "what ends soon is good"
    assert shown.stderr.splitlines() == [
        f"winnow: gateway has expired; winnow certs renew {folder} gateway",
        f"winnow: ingestor ends in 9 days; winnow certs renew {folder} ingestor",
        f"winnow: tool/ci ends in 23 hours; winnow certs renew {folder} tool/ci",
    ]
    head, *lines = shown.stdout.splitlines()
    assert head.split() == ["certificate", "until", "left", "hosts"]
    left = {line.split()[0]: line[head.index("left") : head.index("hosts")] for line in lines}
    assert {name.removeprefix("spiffe://winnow/"): text.strip() for name, text in left.items()} == {
        "ca": "3649 days",
        "audit": "30 days",
        "gateway": "expired",
        "ingestor": "9 days",
        "moderator": "23 hours",
        "orchestrator": "364 days",
        "tool/ci": "23 hours",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "canary host"), "--host: must read NAME or SERVICE=NAME"),
        (("--host", "nothing=w.example"), "--host: must read NAME or SERVICE=NAME"),
        (("--host", "audit="), "--host: must read NAME or SERVICE=NAME"),
        (("--host", "-w.\x1b[31m"), "--host: must read NAME or SERVICE=NAME"),
        (("--tool", "../gateway"), "--tool: must have 1 to 63 characters"),
        (("--tool", ""), "--tool: must have 1 to 63 characters"),
    ],
)
def test_a_name_that_is_none_makes_nothing(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = run("init", tmp_path / "c", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "canary" not in done.stderr
    assert not (tmp_path / "c").exists()


def test_renewing_needs_the_ca_and_a_name_of_the_folder(folder: Path, tmp_path: Path) -> None:
    unknown = run("renew", folder, "nobody")
    assert (unknown.exit_code, "has no certificate of that name" in unknown.stderr) == (2, True)
    (folder / "ca" / "ca.key").rename(tmp_path / "away")
    gone = run("renew", folder)
    assert (gone.exit_code, "put the key back if it was moved away" in gone.stderr) == (2, True)
    assert run("show", folder).exit_code == 0


def test_a_ca_that_has_ended_issues_nothing(tmp_path: Path) -> None:
    with papers.yesterday() as days:
        ca = certificates.Authority.make(tmp_path / "c", days)
    with pytest.raises(certificates.CertificateError, match="the CA has expired"):
        ca.issue("audit", [], 365)


@pytest.mark.parametrize("text", [None, "canary"])
def test_a_folder_of_something_else(text: str | None, tmp_path: Path) -> None:
    if text:
        (tmp_path / "audit").mkdir()
        (tmp_path / "audit" / "cert.pem").write_text(text)
    done = run("show", tmp_path)
    assert done.exit_code == 2
    assert "cannot be read as a certificate" in done.stderr if text else "no certificates in"
    assert "canary" not in done.stderr


def test_a_key_without_its_certificate_is_told(folder: Path) -> None:
    (folder / "audit" / "cert.pem").unlink()
    shown = run("show", folder)
    assert (shown.exit_code, shown.stdout.count("spiffe://")) == (1, 5)
    assert shown.stderr.startswith("winnow: audit has a key.pem and no cert.pem; ")


def test_what_is_missing_is_made_and_what_is_there_stays(folder: Path) -> None:
    before = contents(folder)
    again = run("init", folder, "--host", "w.example", "--tool", "ci", "--keep")
    assert (again.exit_code, again.stdout) == (0, f"nothing is missing in {folder}\n")
    assert contents(folder) == before
    for file in (folder / "audit").iterdir():
        file.unlink()
    assert run("init", folder, "--tool", "cd", "--keep").exit_code == 0
    made = contents(folder)
    assert {name for name in made if made[name] != before.get(name)} == {
        "audit/cert.pem",
        "audit/key.pem",
        *(f"tool/cd/{file}.pem" for file in ("cert", "key", "ca")),
    }
