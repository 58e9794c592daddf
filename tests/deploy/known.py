"""What the code knows of its settings, for the files that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.certificates import SERVICES
from cli.serve import SETTINGS
from runtime import config
from tests import certificates as papers

ROOT = Path(__file__).resolve().parents[2]
# Read outside of Settings.
OUTSIDE = {"secrets_dir"}
# Who calls whom: an address is a setting of whoever dials it.
CALLS = {
    service: {name for name in SERVICES if f"{name}_address" in SETTINGS[service].model_fields}
    for service in SERVICES
}
DATABASE = {name for name in SERVICES if "database_url" in SETTINGS[name].model_fields}


def secrets(service: str) -> set[str]:
    """The settings of a service that hold secrets."""
    fields = SETTINGS[service].model_fields
    return {name for name, field in fields.items() if "Secret" in str(field.annotation)}


def names(variables: Iterable[str]) -> set[str]:
    """Settings, by the variables or the files that set them."""
    return {name.lower().removeprefix("winnow_") for name in variables}


def loaded(
    service: str,
    variables: Mapping[str, str],
    secret_files: Mapping[str, str],
    certificates: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """The settings of a service that is given these variables and files, as it reads them itself.

    Args:
        certificates: what `winnow certs init` has made; the container's is at another path.
        folder: where the secret files are laid.
    """
    given = dict(variables)
    assert given.pop("WINNOW_SECRETS_DIR") == "/run/secrets"
    assert names(secret_files) <= secrets(service)
    folder.mkdir()
    for name, value in secret_files.items():
        (folder / name).write_text(value)
    given["WINNOW_SECRETS_DIR"] = str(folder)
    for name, file in papers.files(certificates / service).items():
        assert given[f"WINNOW_{name.upper()}"].startswith("/run/tls/")
        given[f"WINNOW_{name.upper()}"] = str(file)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    config.check_names(SETTINGS.values())
    return config.load(SETTINGS[service])
