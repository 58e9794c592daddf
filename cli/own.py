"""The settings of this machine, as `winnow up` and its keys go by."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from runtime.config import GuardedSettings, Key


class UpSettings(GuardedSettings):
    """What may be given to `winnow up`; else it makes its own."""

    database_url: SecretStr | None = None
    sealing_key: Key | None = None
    fingerprint_key: Key | None = None
    audit_signing_key: Key | None = None
    audit_checkpoint_dir: Path | None = None
    gateway_tls_certificate: Path | None = None
    gateway_tls_key: Path | None = None
