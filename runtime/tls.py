"""Mutual TLS between services: certificates from files, taken up anew when they change.

Every server demands a certificate of its callers, and every channel shows one
(docs/tls.md). grpc's own least version is TLS 1.2. What is not TLS is a Unix
socket, guarded by its permissions, or stays on the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from runtime import metrics
from runtime.config import PREFIX, ConfigError, Settings
from runtime.log import get_logger
from runtime.peers import Peers

if TYPE_CHECKING:
    from cryptography import x509

_log = get_logger()

# When a certificate ends soon: a quarter of its time is left, and no more than this. Who
# renews by themselves has done so long before.
_SOON = timedelta(days=30)
_SOON_SHARE = 0.25
# How often that is complained of.
_DAY_SECONDS = 86_400.0
_RENEWAL_SECONDS = 60.0
# host:port, with [] around an IPv6 host; no other way of naming a target is local.
_TARGET = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+)):\d+", re.ASCII)


class Lifetime(NamedTuple):
    """From when until when a certificate is good."""

    begins: datetime
    ends: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Lifetime:
        """What the certificate says."""
        return cls(certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    @property
    def left(self) -> timedelta:
        """Until the end; not above zero once it has come."""
        return self.ends - datetime.now(UTC)

    @property
    def soon(self) -> bool:
        """Whether the end is near, or has come."""
        return self.left <= min(_SOON, _SOON_SHARE * (self.ends - self.begins))


@dataclass(frozen=True)
class Material:
    """What the files held.

    Args:
        certificate: PEM, as are `key` and `ca`, which may be empty.
        lifetimes: by what has them: `own` and `authority`, or `https`.
    """

    certificate: bytes
    key: bytes
    ca: bytes
    lifetimes: Mapping[str, Lifetime]


class Files:
    """A certificate (the leaf first), its key, and perhaps a CA, in PEM files.

    Args:
        files: two or three, by the settings that name them.

    Raises:
        ConfigError: a file cannot be read, or does not fit the others.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._material = self._told(_read(files))

    @classmethod
    def of(cls, settings: Settings, *names: str) -> Files | None:
        """The files that settings of these names name; None if they name none.

        Raises:
            ConfigError: they name some only, or what cannot be used.
        """
        given = {PREFIX + name.upper(): getattr(settings, name) for name in names}
        if not any(given.values()):
            return None
        if not all(given.values()):
            raise ConfigError(f"set all of {', '.join(given)}, or none")
        return cls(given)

    def current(self) -> Material:
        """What the files hold; what they held as long as they are no use, half renewed."""
        with self._lock:  # asked by grpc's threads as well
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._material = self._told(_read(self._files))
                    _log.info("certificate.renewed", status="renewed")
                except ConfigError as error:
                    _log.error("certificate.unusable", status="kept the old one", reason=str(error))
            return self._material

    def _look(self) -> tuple[tuple[int, ...], ...]:
        try:
            stats = [file.stat() for file in self._files.values()]
        except OSError:
            return ()
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in stats)

    @staticmethod
    def _told(material: Material) -> Material:
        for name, lifetime in material.lifetimes.items():
            metrics.CERTIFICATE_BEGINS.labels(name).set(lifetime.begins.timestamp())
            metrics.CERTIFICATE_ENDS.labels(name).set(lifetime.ends.timestamp())
        return material

    async def watch(self) -> None:
        """Takes renewed files up though nobody calls, and complains daily of what ends soon."""
        warned = -_DAY_SECONDS
        while True:
            lifetimes = self.current().lifetimes
            if time.monotonic() >= warned + _DAY_SECONDS:
                warned = time.monotonic()
                for name, lifetime in lifetimes.items():
                    warn_of(name, lifetime)
            await asyncio.sleep(_RENEWAL_SECONDS)

    def https(self) -> ssl.SSLContext:
        """A context to serve with, of TLS 1.2 or later, as the files are now."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(context)
        return context

    async def renew(self, context: ssl.SSLContext) -> None:
        """Has a context show the certificate of today."""
        shown = self.current()
        while True:
            await asyncio.sleep(_RENEWAL_SECONDS)
            if (now := self.current()) is not shown:
                with contextlib.suppress(OSError):  # changing right now: in a minute again
                    self._load(context)
                    shown = now

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = list(self._files.values())[:2]
        context.load_cert_chain(certificate, key)


class Tls:
    """This process's certificate, the CA whose certificates it believes, who may call.

    Args:
        files: certificate, key and CA.
        peers: who may call.
    """

    def __init__(self, files: Files, peers: Peers) -> None:
        self.files = files
        self.peers = peers

    @classmethod
    def of(cls, settings: Settings) -> Tls | None:
        """What the settings say; None if services speak plainly.

        Raises:
            ConfigError: they say it by halves, or name files that cannot be used.
        """
        peers = Peers(settings.peers_allowed)
        files = Files.of(settings, "tls_certificate", "tls_key", "tls_ca")
        return cls(files, peers) if files else None

    def server(self) -> grpc.ServerCredentials:
        """Credentials that demand a certificate of every caller, and renew themselves."""

        def configured() -> grpc.ServerCertificateConfiguration:
            now = self.files.current()
            return grpc.ssl_server_certificate_configuration([(now.key, now.certificate)], now.ca)

        # grpc asks at each handshake.
        return grpc.dynamic_ssl_server_credentials(
            configured(), configured, require_client_authentication=True
        )

    def client(self) -> grpc.ChannelCredentials:
        """Credentials of a channel opened now; they stay as they are."""
        now = self.files.current()
        return grpc.ssl_channel_credentials(now.ca, now.key, now.certificate)


def warn_of(name: str, lifetime: Lifetime) -> None:
    """Logs a line if a certificate ends soon, or has.

    Args:
        name: which it is, as in `Material.lifetimes`.
    """
    if not lifetime.soon:
        return
    left, ends = lifetime.left, lifetime.ends.isoformat()
    if left <= timedelta(0):
        _log.error("certificate.expired", status="expired", certificate=name, not_after=ends)
    else:
        hours = left // timedelta(hours=1)
        _log.warning(
            "certificate.expires", status="expires", certificate=name, not_after=ends, hours=hours
        )


def check(address: str, tls: Tls | None) -> None:
    """Refuses to speak plainly with what is not on this machine.

    Args:
        address: `unix:/path` or `host:port`, to listen on or to dial.

    Raises:
        ConfigError: it is not local, and there is no certificate.
    """
    if tls is None and not (is_socket(address) or _is_loopback(address)):
        raise ConfigError(
            f"{address} is neither a Unix socket nor the loopback: set WINNOW_TLS_CERTIFICATE, "
            "WINNOW_TLS_KEY and WINNOW_TLS_CA (`winnow certs init` makes them)"
        )


def is_socket(address: str) -> bool:
    """Whether an address is a file: permissions guard it, and TLS has nothing to add."""
    return address.startswith("unix:")


def _is_loopback(address: str) -> bool:
    target = _TARGET.fullmatch(address)
    if target is None:
        return False
    host = target[1] or target[2]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(files: dict[str, Path]) -> Material:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    texts = []
    for name, file in files.items():
        try:
            texts.append(file.read_bytes())
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            raise ConfigError(f"{name}: cannot be read: {reason}") from None
    certificate, key, ca = [*texts, b""][:3]
    its_name, keys_name, *cas_name = files
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise ConfigError(f"{its_name}: holds no certificate in PEM") from None
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        raise ConfigError(f"{keys_name}: holds no private key in PEM, unencrypted") from None
    if private.public_key() != chain[0].public_key():
        raise ConfigError(f"{keys_name}: is not the key of {its_name}")
    if not cas_name:
        return Material(certificate, key, ca, {"https": Lifetime.of(chain[0])})
    try:
        authorities = x509.load_pem_x509_certificates(ca)
    except ValueError:
        raise ConfigError(f"{cas_name[0]}: holds no certificate in PEM") from None
    # Of several, as while one gives way to another, the one that our own is of.
    ours = [one for one in authorities if one.subject == chain[-1].issuer] or authorities
    last = max(ours, key=lambda one: one.not_valid_after_utc)
    lifetimes = {"own": Lifetime.of(chain[0]), "authority": Lifetime.of(last)}
    return Material(certificate, key, ca, lifetimes)


class RenewingChannel(grpc.aio.Channel):
    """A channel that shows the certificate of today.

    A channel's credentials are fixed, so another takes its place when the files have
    changed; calls under way end on the old one.

    Args:
        open_now: opens a channel with what the files hold.
        tls: the files.
    """

    def __init__(self, open_now: Callable[[], grpc.aio.Channel], tls: Tls) -> None:
        self._open_now = open_now
        self._tls = tls
        self._material = tls.files.current()
        self._channel = open_now()

    def _now(self) -> grpc.aio.Channel:
        material = self._tls.files.current()
        if material is not self._material:
            self._material = material
            self._channel = self._open_now()
        return self._channel

    def _late(self, kind: str, method: str, *serializers: Any, **more: Any) -> Any:
        def start(*arguments: Any, **options: Any) -> Any:
            return getattr(self._now(), kind)(method, *serializers, **more)(*arguments, **options)

        return start

    def unary_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._late("unary_unary", method, *serializers, **more)

    def unary_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._late("unary_stream", method, *serializers, **more)

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._late("stream_unary", method, *serializers, **more)

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._late("stream_stream", method, *serializers, **more)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._now().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._now().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._now().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    async def __aenter__(self) -> RenewingChannel:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()
