"""Settings: environment (`WINNOW_…`), a secrets directory, a TOML file, defaults.

In that order of precedence. Names are flat and unique over all services, so one
file or one environment serves every process; a name that no service knows is an
error (`check_names`). Keys are 32 bytes in base64, each in the environment, in
the TOML file, or in a file of the secrets directory (`WINNOW_SECRETS_DIR`:
Docker's and Kubernetes' mounted secrets, and what `winnow up` generates).
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretBytes, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "WINNOW_"

# Read outside of Settings: where settings come from, and the client's own.
_OTHER_NAMES = frozenset(
    {
        "WINNOW_CONFIG",
        "WINNOW_SECRETS_DIR",
        "WINNOW_SERVER",
        "WINNOW_API_KEY",
        "WINNOW_API_KEY_FILE",
        "WINNOW_MATCHER",
        "WINNOW_MATCHER_CACHE",
        "WINNOW_SAMPLES",
        "WINNOW_CRASH_POINT",
    }
)


class ConfigError(Exception):
    """Settings that cannot be used; the message names the setting, never its value."""


def _key(value: Any) -> Any:
    if isinstance(value, str | bytes):
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            raise ValueError("must be 32 bytes in base64 (openssl rand -base64 32)")
        return raw
    return value


def _keys(value: Any) -> Any:
    return (
        [key.strip() for key in value.split(",") if key.strip()]
        if isinstance(value, str)
        else value
    )


Key = Annotated[SecretBytes, BeforeValidator(_key)]
# Several, joined by commas.
Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_keys)]


_SPAN = re.compile(r"([1-9]\d{0,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _span(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        return None
    if (match := _SPAN.fullmatch(value)) is None:
        raise ValueError("must be a number and m, h, d or w, for example 12h or 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


# A span of time, e.g. 12h, 30d, 8w; empty for none.
Span = Annotated[timedelta | None, BeforeValidator(_span)]


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


# In TOML a list, elsewhere separated by commas.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What every process has; each service's app.py adds its own."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    tenant: str = Field("default", description="tenant of calls that name none")
    tls_certificate: Path | None = Field(
        None, description="this process's certificate between services, a PEM file"
    )
    tls_key: Path | None = Field(None, description="the key of that certificate, a PEM file")
    tls_ca: Path | None = Field(
        None, description="the CA of the other services' certificates, a PEM file"
    )
    peers_allowed: Names = Field(
        (), description="further callers, SERVICE=IDENTITY, separated by commas"
    )
    metrics_listen: str | None = Field(
        None,
        description="where metrics are served for Prometheus, host:port; "
        "of winnow up the first of five ports",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]",
        description="OTLP collector that traces are sent to, http://host:4318",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        if folder := os.environ.get("WINNOW_SECRETS_DIR"):
            sources.append(SecretsSettingsSource(settings_cls, folder))
        if file := os.environ.get("WINNOW_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, Path(file)))
        return tuple(sources)


class GuardedSettings(Settings):
    """Settings of what asks its callers for API keys."""

    auth: Literal["none", "keys"] | None = Field(
        None,
        description="whether callers must show an API key: none or keys; "
        "unset: keys wherever others than this machine can call",
    )

    def keys_needed(self, listen: str) -> bool:
        """Whether callers at an address must show a key.

        Raises:
            ConfigError: they need none, and others than this machine can call.
        """
        if self.auth == "none" and not is_local(listen):
            raise ConfigError(
                f"{PREFIX}AUTH: none is for addresses that only this machine reaches; "
                f"{listen} is reached by others: leave it unset, or listen on 127.0.0.1"
            )
        return self.auth == "keys" or not is_local(listen)


def is_local(listen: str) -> bool:
    """Whether only this machine reaches `unix:/path` or `host:port`."""
    host = listen.rpartition(":")[0].strip("[]")
    if listen.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LimitSettings(Settings):
    """Settings of what counts its callers' calls (runtime.limits)."""

    rate_capacity: int = Field(
        1000, ge=0, description="tokens of a key's bucket, one for a request; 0: no rate limit"
    )
    rate_refill_per_second: float = Field(
        100.0, gt=0, description="tokens that come back to a key's bucket in a second"
    )
    rate_cost_per_mib: float = Field(
        1.0, ge=0, description="tokens that each MiB of a body costs beside"
    )
    rate_store: SecretStr = Field(
        SecretStr("memory"),
        description="where buckets are: memory, or shared: postgres, valkey://host:port",
    )
    concurrency: int = Field(
        64, ge=0, description="requests with keys worked on at a time; 0: any number"
    )
    tenant_concurrency: int = Field(
        16, ge=1, description="requests of one tenant worked on at a time"
    )
    concurrency_patience: float = Field(
        10.0, gt=0, description="seconds that a request waits for its turn"
    )


class SealingSettings(Settings):
    """What a service that seals or opens has (runtime.keyring)."""

    sealing_key: Key = Field(description="wraps the keys that seal what is secret")
    sealing_keys_accepted: Keys = Field(
        (), description="other keys that unwrap, joined by commas: retired ones, or the next"
    )


S = TypeVar("S", bound=Settings)


def load(settings_class: type[S], **overrides: Any) -> S:
    """The settings of one service.

    Raises:
        ConfigError: a value is missing or wrong; the message never shows it.
    """
    try:
        return settings_class(**overrides)
    except ValidationError as error:
        problems = (
            f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_input=False, include_context=False)
        )
        raise ConfigError("; ".join(problems)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the file named by WINNOW_CONFIG is not TOML: {error}") from None


def default(settings_class: type[Settings], name: str) -> str | None:
    """A setting's default as it would be written; None if the setting is required."""
    field = settings_class.model_fields[name]
    if field.is_required():
        return None
    # A value that is given may be secret; a default is not.
    secret = isinstance(field.default, SecretStr)
    return field.default.get_secret_value() if secret else str(field.default)


def check_names(known: Iterable[type[Settings]]) -> None:
    """Refuses settings that no service knows: a typo must not pass in silence.

    Raises:
        ConfigError: naming the unknown setting and the nearest known one.
    """
    fields = {name for settings_class in known for name in settings_class.model_fields}
    names = {PREFIX + name.upper() for name in fields} | _OTHER_NAMES
    for name in os.environ:
        if name.startswith(PREFIX) and name not in names:
            raise ConfigError(f"unknown setting {name}{_nearest(name, names)}")
    if file := os.environ.get("WINNOW_CONFIG"):
        try:
            keys = tomllib.loads(Path(file).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the file named by WINNOW_CONFIG: {error}") from None
        for key in keys:
            if key not in fields:
                raise ConfigError(f"unknown key {key} in the TOML file{_nearest(key, fields)}")


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""
