"""compose.yaml: what each service is given, whom it reaches, what it may do."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from cli import certificates
from cli.certificates import SERVICES
from cli.main import app
from cli.serve import SETTINGS
from tests.deploy.known import CALLS, DATABASE, OUTSIDE, ROOT, loaded, names, secrets


def interpolated(text: str) -> str:
    """With the defaults of its variables, as Compose reads it where none is set."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)


TEXT = interpolated((ROOT / "compose.yaml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in ALL.items() if one["image"].startswith("winnow:")}


def networks(name: str) -> set[str]:
    return set(ALL[name].get("networks", []))


def environment(name: str) -> dict[str, str]:
    given: dict[str, str] = ALL[name].get("environment") or {}
    return {key: str(value or "") for key, value in given.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/secrets.sh makes, and what the service `certs` does."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    folder = tmp_path_factory.mktemp("compose")
    secrets_made(folder / "secrets")
    certificates.init(folder / "certs", [], [], 365, 3650)
    return folder


def secrets_made(folder: Path) -> None:
    script = ROOT / "deploy" / "secrets.sh"
    subprocess.run(["sh", script, folder], check=True, capture_output=True, timeout=30)


def test_it_is_of_the_specification() -> None:
    compose_spec = pytest.importorskip(
        "compose_spec", reason="pip install of requirements-deploy.lock"
    )
    read = compose_spec.PyOptions().from_yaml(yaml.safe_dump(COMPOSE))
    read.validate()  # what is named is there
    assert set(read.service_names()) == set(ALL)
    with pytest.raises(ValueError, match="mem_limmit"):
        compose_spec.PyOptions().from_yaml(
            yaml.safe_dump(COMPOSE).replace("mem_limit", "mem_limmit")
        )


def test_it_has_every_service_and_each_runs_itself() -> None:
    assert set(SERVICES) <= set(OURS)
    for name in SERVICES:
        assert ALL[name]["command"] == ["serve", name]
        assert ALL[name]["healthcheck"]["test"] == ["CMD", "winnow", "probe", name]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {one["command"][0] for one in OURS.values()} <= set(commands)


@pytest.mark.parametrize("name", SERVICES)
def test_each_has_the_settings_that_it_needs_and_no_others(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {one: (made / "secrets" / one).read_text() for one in ALL[name].get("secrets", [])}
    settings = loaded(name, environment(name), given, made / "certs", tmp_path / "s", monkeypatch)
    assert names(environment(name)) - OUTSIDE <= set(SETTINGS[name].model_fields)
    assert names(given) == secrets(name) - names(environment(name))
    for callee in CALLS[name]:
        host, _, port = getattr(settings, f"{callee}_address").partition(":")
        assert host == callee
        assert environment(callee)[f"WINNOW_{callee.upper()}_LISTEN"] == f"0.0.0.0:{port}"


def test_every_name_is_a_setting() -> None:
    known = {f"WINNOW_{name.upper()}" for one in SETTINGS.values() for name in one.model_fields}
    used = {name for one in OURS.values() for name in one.get("environment") or {}}
    assert used - {f"WINNOW_{name.upper()}" for name in OUTSIDE} <= known
    assert set(re.findall(r"\bWINNOW_\w+", TEXT)) <= used


def test_the_migration_has_the_database_and_nothing_else() -> None:
    assert ALL["migrate"]["secrets"] == ["winnow_database_url"]
    assert names(environment("migrate")) == OUTSIDE
    assert networks("migrate") == {"database"}
    for name in DATABASE:
        assert ALL[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_who_reaches_whom_is_who_calls_whom() -> None:
    together = {
        frozenset(pair)
        for pair in combinations(SERVICES, 2)
        if networks(pair[0]) & networks(pair[1])
    }
    called = {frozenset((caller, callee)) for caller in SERVICES for callee in CALLS[caller]}
    assert together == called


def test_who_reaches_postgresql() -> None:
    inside = {name for name in ALL if networks(name) & networks("postgres")}
    assert inside == {*DATABASE, "migrate", "postgres"}
    assert COMPOSE["networks"]["database"]["internal"] is True


def test_only_the_gateway_and_what_operators_look_at_is_published() -> None:
    published = {name: one["ports"] for name, one in ALL.items() if "ports" in one}
    assert set(published) == {"gateway", "prometheus"}
    for port in chain(*published.values()):
        assert port.startswith("127.0.0.1:")
    ways_out = {
        name for name, one in COMPOSE["networks"].items() if not (one or {}).get("internal")
    }
    assert ways_out == {"front", "operators"}
    assert {name for name in ALL if networks(name) & ways_out} == set(published)


@pytest.mark.parametrize("name", ALL)
def test_none_may_more_than_it_must(name: str) -> None:
    one = ALL[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "cap_add" not in one
    assert "privileged" not in one
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["mem_limit"]
    assert one["pids_limit"]
    assert "docker.sock" not in str(one)
    assert re.search(r":\w", one["image"]), "a tag"


@pytest.mark.parametrize("name", SERVICES)
def test_each_sees_its_own_certificate_and_not_the_cas_key(name: str) -> None:
    (mount,) = [one for one in ALL[name]["volumes"] if isinstance(one, dict)]
    assert (mount["source"], mount["volume"]["subpath"]) == ("certs", name)
    assert mount["read_only"] is True
    assert ALL[name]["depends_on"].get("certs") or name == "gateway"


def test_the_service_that_makes_certificates_may_run_again(tmp_path: Path) -> None:
    (volume,) = ALL["certs"]["volumes"]
    command = [
        str(tmp_path / "certs") if one == volume.partition(":")[2] else one
        for one in ALL["certs"]["command"]
    ]
    assert str(tmp_path / "certs") in command
    for _ in range(2):
        assert CliRunner().invoke(app, command).exit_code == 0


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = {
        volume.partition(":")[0]
        for one in ALL.values()
        for volume in one.get("volumes", [])
        if isinstance(volume, str) and volume.startswith("./")
    }
    assert mounted
    assert [name for name in mounted if not (ROOT / name).exists()] == []


def test_secrets_are_made_once(made: Path) -> None:
    folder = made / "secrets"
    files = {one["file"].removeprefix("secrets/") for one in COMPOSE["secrets"].values()}
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(before) == files
    assert folder.stat().st_mode & 0o777 == 0o700
    secrets_made(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    made_up = [value for value in before.values() if value]
    assert len(set(made_up)) == len(made_up)


def test_prometheus_has_the_targets_of_compose_and_nothing_else_changed() -> None:
    compose, alone = (
        yaml.safe_load((ROOT / "deploy" / folder / "prometheus.yml").read_text())
        for folder in ("compose", "prometheus")
    )
    (watched,) = compose.pop("scrape_configs")
    (single,) = alone.pop("scrape_configs")
    assert compose == alone
    assert watched["job_name"] == single["job_name"]
    targets = {one["targets"][0]: one["labels"] for one in watched["static_configs"]}
    assert targets == {
        f"{name}:{environment(name)['WINNOW_METRICS_LISTEN'].partition(':')[2]}": {"service": name}
        for name in SERVICES
    }
    assert all(networks(name) & networks("prometheus") for name in SERVICES)


def test_promtail_keeps_the_logs_of_the_services_as_elsewhere() -> None:
    compose, alone = (
        yaml.safe_load((ROOT / "deploy" / folder / "promtail.yml").read_text())
        for folder in ("compose", "loki")
    )
    assert compose["clients"] == alone["clients"]
    stages = {
        key: one[key] for one in compose["scrape_configs"][0]["pipeline_stages"] for key in one
    }
    kept = re.findall(r"\w+", stages["match"]["selector"].partition('"')[2])
    assert set(kept) == set(SERVICES)
    for stage in alone["scrape_configs"][0]["pipeline_stages"]:
        for key, value in stage.items():
            assert set(stages[key]) == set(value)


def test_the_first_key_is_made_with_the_url_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the orchestrator's container: no variable has the URL."""
    (tmp_path / "winnow_database_url").write_text("postgresql://u:canary@127.0.0.1:1/none")
    monkeypatch.setenv("WINNOW_SECRETS_DIR", str(tmp_path))
    monkeypatch.delenv("WINNOW_DATABASE_URL", raising=False)
    done = CliRunner().invoke(
        app, ["keys", "create", "--direct", "--name", "operator", "--role", "admin"]
    )
    assert done.exit_code == 2
    assert "database" in done.stderr
    assert "does not answer" in done.stderr
    assert "canary" not in done.stderr
