"""What a submitter says about a report, made safe to keep.

Everything passes the redactor; user information in URLs is dropped; what was
scanned is reduced to one stable `asset_key`.
"""

from __future__ import annotations

import re

from runtime.errors import WinnowError
from runtime.interceptors import validate
from runtime.redaction import redact
from winnow.report.v1.report_pb2 import ReportSource
from winnow.report.v1.report_service_pb2 import ReportDeclaration

# To the last @ before the path: a password may hold one.
_USERINFO = re.compile(r"(?<=//)[^/\s]*@")
_BARE_PASSWORD = re.compile(r"\A[^/\s:@]+:[^/\s]*@")
_SCP = re.compile(r"\A(?:[\w.-]+@)?([\w.-]+):(?!//)(.+)\Z")
_SCHEME = re.compile(r"\A[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LIMIT = 512


def merge(header: ReportDeclaration, end: ReportDeclaration) -> ReportDeclaration:
    """The header's declaration with what the end of the upload adds or overrides.

    Raises:
        WinnowError: INVALID_ARGUMENT if a limit of the contract is broken.
    """
    merged = ReportDeclaration()
    merged.CopyFrom(header)
    merged.MergeFrom(end)
    validate(merged)
    for field, value in (
        ("source.repository", merged.source.repository),
        ("source.ref", merged.source.ref),
        ("source.commit", merged.source.commit),
        ("source.image", merged.source.image),
    ):
        if len(value) > _LIMIT:
            raise WinnowError(
                "INVALID_ARGUMENT", f"{field}: must be at most {_LIMIT} characters", field=field
            )
    return merged


def clean(declaration: ReportDeclaration) -> ReportDeclaration:
    """The declaration with secrets redacted."""
    source = declaration.source
    return ReportDeclaration(
        # Redacted first: providers' tokens are known by their case.
        scanner_type=_clean(declaration.scanner_type).strip().lower(),
        report_format=_clean(declaration.report_format).strip().lower(),
        source=ReportSource(
            repository=_clean(_BARE_PASSWORD.sub("", _USERINFO.sub("", source.repository.strip()))),
            ref=_clean(source.ref),
            commit=_clean(source.commit),
            image=_clean(_USERINFO.sub("", source.image)),
        ),
        labels={_clean(key): _clean(value) for key, value in declaration.labels.items()},
    )


def _clean(text: str) -> str:
    # PostgreSQL's text and jsonb refuse NUL.
    return redact(text.replace("\x00", "\ufffd"))


def asset_key(source: ReportSource) -> str:
    """Stable key of what was scanned: "repo:host/path", "image:name", or empty.

    Spelling does not matter: scheme, user, port of the usual forms, trailing
    ".git" and slash, and the host's case are dropped, and so are an image's tag
    and digest.
    """
    if source.repository:
        place = source.repository.strip()
        if scp := _SCP.match(place):
            place = f"{scp[1]}/{scp[2]}"
        place = _SCHEME.sub("", place).rstrip("/").removesuffix(".git")
        host, slash, path = place.partition("/")
        host = host.rsplit("@", 1)[-1].split(":", 1)[0].lower() if slash else host
        return f"repo:{host}{slash}{path}"
    if source.image:
        name = source.image.strip().split("@", 1)[0]
        head, slash, last = name.rpartition("/")
        return f"image:{head}{slash}{last.split(':', 1)[0]}"
    return ""
