"""A private CA for small installations, and the certificates that it issues.

A folder holds `ca/` (`ca.key`, `ca.pem`) and one folder for each service and tool
(`cert.pem`, `key.pem`, `ca.pem`): what one process is given. Keys are ECDSA on
P-256, in files of mode 0600.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime import peers
from runtime.tls import Lifetime

SERVICES = ("orchestrator", "ingestor", "moderator", "audit", "gateway")
CA = "ca"
# Where a service is reached on its own machine.
_LOCAL = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\Z")
# The other machines' clocks may be behind.
_SKEW = timedelta(hours=1)


class CertificateError(Exception):
    """It cannot be made or read; the message says why, and what to do."""


@dataclass(frozen=True)
class Issued:
    """What a certificate in the folder says."""

    name: str
    identity: str
    hosts: tuple[str, ...]
    lifetime: Lifetime


class Authority:
    """The CA of a folder.

    Args:
        folder: where `init` has made it.

    Raises:
        CertificateError: its key or its certificate is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._pem = (folder / CA / "ca.pem").read_bytes()
            self._certificate = x509.load_pem_x509_certificate(self._pem)
            key = load_pem_private_key((folder / CA / "ca.key").read_bytes(), password=None)
        except (OSError, ValueError, TypeError):
            raise CertificateError(
                f"no CA in {folder}: ca/ca.key and ca/ca.pem are needed (`winnow certs init` "
                "makes them; put the key back if it was moved away)"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{folder}: ca/ca.key is no key that `winnow certs init` made")
        self._key = key

    @classmethod
    def make(cls, folder: Path, days: int) -> Authority:
        """A new CA.

        Args:
            folder: where to; made, or empty.
            days: how long it is believed.

        Raises:
            CertificateError: the folder is not empty.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        # Told apart from others of ours, where several are believed.
        name = _name(f"Winnow CA {os.urandom(4).hex()}")
        certificate = (
            _begun(name, name, key.public_key(), timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        if folder.is_dir() and any(folder.iterdir()):
            raise CertificateError(
                f"{folder} is not empty, and nothing is overwritten; "
                "`winnow certs renew` issues anew"
            )
        where = _folder(folder, CA)
        _write(where / "ca.key", _private(key))
        _write(where / "ca.pem", certificate.public_bytes(Encoding.PEM))
        return cls(folder)

    def issue(self, name: str, hosts: Iterable[str], days: int) -> Issued:
        """A certificate for a service, or `tool/NAME`, in its folder; an older one gives way.

        Args:
            hosts: DNS names and addresses to be reached at, beside its own name and this
                machine's; a tool is reached by nobody.
            days: how long it is good, the CA's own time at most.

        Raises:
            CertificateError: the CA has expired.
        """
        tool = name.startswith("tool/")
        names = () if tool else tuple(dict.fromkeys((name, *_LOCAL, *hosts)))
        identity = f"{peers.PREFIX}{name}"
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if not tool:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
        key = ec.generate_private_key(ec.SECP256R1())
        left = self._certificate.not_valid_after_utc - datetime.now(UTC)
        if left <= timedelta(0):
            raise CertificateError("the CA has expired; `winnow certs init` makes one elsewhere")
        certificate = (
            _begun(
                _name(name),
                self._certificate.subject,
                key.public_key(),
                min(timedelta(days=days), left),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(identity), *map(_general_name, names)]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        where = _folder(self._folder, name)
        _write(where / "key.pem", _private(key))
        _write(where / "cert.pem", certificate.public_bytes(Encoding.PEM))
        _write(where / "ca.pem", self._pem)
        return _told(name, certificate)


def init(
    folder: Path,
    hosts: Iterable[str],
    tools: Iterable[str],
    days: int,
    ca_days: int,
    *,
    keep: bool = False,
) -> list[Issued]:
    """A CA, and certificates for the five services and these tools.

    Args:
        hosts: `NAME` for all services, or `SERVICE=NAME` for one.
        tools: names of tools.
        keep: the folder may have been begun: what is missing is made, what is there stays.

    Returns:
        What was made.

    Raises:
        CertificateError: a name is none, or the folder holds a CA already.
    """
    wanted: dict[str, list[str]] = {name: [] for name in SERVICES}
    for host in hosts:
        service, equals, one = host.rpartition("=")
        if not _is_host(one) or (equals and service not in SERVICES):
            raise CertificateError(
                "--host: must read NAME or SERVICE=NAME, with a DNS name or an IP address"
            )
        for name in (service,) if equals else SERVICES:
            wanted[name].append(one)
    for tool in tools:
        if not _NAME.match(tool):
            raise CertificateError("--tool: must have 1 to 63 characters of a-z 0-9 -")
        wanted[f"tool/{tool}"] = []
    there = {one.name for one in _issued(folder)} if keep else set()
    missing = {name: names for name, names in wanted.items() if name not in there}
    if not missing:
        return []
    authority = Authority(folder) if CA in there else Authority.make(folder, ca_days)
    return [authority.issue(name, names, days) for name, names in missing.items()]


def renew(folder: Path, names: Iterable[str], days: int) -> list[Issued]:
    """New keys and certificates for the same names, from the same CA.

    Args:
        names: which; all of the folder if none.

    Raises:
        CertificateError: the folder has none of that name, or no CA.
    """
    authority = Authority(folder)
    there = {one.name: one for one in issued(folder) if one.name != CA}
    wanted = list(names) or list(there)
    if not set(wanted) <= set(there):
        raise CertificateError(
            f"{folder} has no certificate of that name; it has {', '.join(there)}"
        )
    return [authority.issue(name, there[name].hosts, days) for name in wanted]


def issued(folder: Path) -> list[Issued]:
    """The certificates of a folder, the CA's first.

    Raises:
        CertificateError: there is none, or one cannot be read.
    """
    found = list(_issued(folder))
    if not found:
        raise CertificateError(f"no certificates in {folder}; `winnow certs init` makes them")
    return found


def halves(folder: Path) -> list[str]:
    """The names of which a folder has the key, and not the certificate."""
    keys = sorted(folder.glob("**/key.pem"))
    return [
        str(key.parent.relative_to(folder))
        for key in keys
        if not (key.parent / "cert.pem").exists()
    ]


def _issued(folder: Path) -> Iterator[Issued]:
    for file in (*folder.glob(f"{CA}/ca.pem"), *sorted(folder.glob("**/cert.pem"))):
        try:
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
            yield _told(str(file.parent.relative_to(folder)), certificate)
        except (OSError, ValueError):
            raise CertificateError(f"{file}: cannot be read as a certificate") from None


def _told(name: str, certificate: x509.Certificate) -> Issued:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:  # the CA
        names = x509.SubjectAlternativeName([])
    return Issued(
        name,
        ", ".join(names.get_values_for_type(x509.UniformResourceIdentifier)) or name,
        (
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ),
        Lifetime.of(certificate),
    )


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, time: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + time)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _is_host(text: str) -> bool:
    return isinstance(_general_name(text), x509.IPAddress) or bool(_HOST.match(text))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _folder(above: Path, name: str) -> Path:
    """A folder of mode 0700, as those above it that are made for it."""
    where = above / name
    for one in (*reversed([p for p in where.parents if not p.exists()]), where):
        one.mkdir(mode=0o700, exist_ok=True)
    return where


def _write(file: Path, content: bytes) -> None:
    """A file of mode 0600, whole or not at all."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    new.replace(file)
