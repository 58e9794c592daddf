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
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, SecretBytes, ValidationError
from pydantic_settings import (
    BaseSettings,
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
        "WINNOW_MATCHER",
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


Key = Annotated[SecretBytes, BeforeValidator(_key)]


class Settings(BaseSettings):
    """What every process has; each service's app.py adds its own."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    tenant: str = Field("default", description="tenant of calls that name none")
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
            f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}"
            for e in error.errors(include_input=False, include_context=False)
        )
        raise ConfigError("; ".join(problems)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the file named by WINNOW_CONFIG is not TOML: {error}") from None


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
