"""Signed requests: who is let in, once, and what the others are told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from orchestrator import store_access
from runtime import api_keys, message_signatures, signatures, signing
from runtime.access import place
from runtime.keyring import Keyring
from tests.front.conftest import REPORT, RING, Front, signed
from tests.harness import SEALING_KEY
from winnow.access.v1.api_key_pb2 import Role

ROOT = Path(__file__).resolve().parents[2]


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    found = answer.json()
    return answer.status_code, found.get("reason", ""), found.get("header", "")


async def reports(front: Front, key: api_keys.Shown) -> int:
    listed = await front.client.get("/reports", headers={"Authorization": f"Bearer {key.text}"})
    return len(listed.json()["reports"])


async def test_a_signed_report_is_taken_under_its_key(front: Front) -> None:
    key = await front.key()
    target = "/reports?repository=https%3A%2F%2Fexample.org%2Fa"
    answer = await front.client.post(
        target, content=REPORT, headers=signed(key, "POST", target, REPORT)
    )
    assert answer.status_code == 201, answer.text
    who = await front.client.get("/whoami", headers=signed(key, "GET", "/whoami"))
    assert who.json()["key_id"] == key.key_id
    # The audit service knows the grant too.
    trail = await front.client.get(
        f"/reports/{answer.json()['report_id']}/events",
        headers=signed(key, "GET", f"/reports/{answer.json()['report_id']}/events"),
    )
    assert trail.status_code == 200, trail.text


async def test_a_key_does_no_more_signed_than_shown(front: Front) -> None:
    key = await front.key(Role.ROLE_READ)
    answer = await front.client.post(
        "/reports", content=REPORT, headers=signed(key, "POST", "/reports", REPORT)
    )
    assert problem(answer)[:2] == (403, "PERMISSION_DENIED")


def changed(fields: dict[str, str], **more: str | None) -> dict[str, str]:
    given: dict[str, Any] = {**fields, **{n.replace("_", "-"): v for n, v in more.items()}}
    return {name: value for name, value in given.items() if value is not None}


OTHER_MAC = base64.b64encode(bytes(32)).decode()
WRONG: dict[str, tuple[dict[str, str | None], str]] = {
    "no key": ({"x_api_key": None}, "x-api-key"),
    "no key's id": ({"x_api_key": "abcdefghijkl"}, "x-api-key"),
    "a whole key": ({"x_api_key": "wnw_" + "a" * 62}, "x-api-key"),
    "no time": ({"x_timestamp": None}, "x-timestamp"),
    "a date": ({"x_timestamp": "2026-11-22T00:00:00Z"}, "x-timestamp"),
    "long ago": ({"x_timestamp": "1000000000"}, "x-timestamp"),
    "to come": ({"x_timestamp": "99999999999"}, "x-timestamp"),
    "no nonce": ({"x_nonce": None}, "x-nonce"),
    "a short nonce": ({"x_nonce": "abc"}, "x-nonce"),
    "another nonce": ({"x_nonce": "canary-canary-canary"}, "x-signature"),
    "no digest": ({"x_content_sha256": None}, "x-content-sha256"),
    "no hex": ({"x_content_sha256": "canary" * 10}, "x-content-sha256"),
    "no signature, but a version": ({"x_signature": ""}, "x-signature"),
    "no base64": ({"x_signature": "canary!"}, "x-signature"),
    "another signature": ({"x_signature": OTHER_MAC}, "x-signature"),
    "a version that there is not": ({"x_signature_version": "hmac-v9"}, "x-signature-version"),
    "the other version": ({"x_signature_version": "hmac-v2"}, "x-signature"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named_and_what_is_expected_is_not(front: Front, case: str) -> None:
    key = await front.key()
    change, header = WRONG[case]
    right = signed(key, "POST", "/reports", REPORT)
    answer = await front.client.post("/reports", content=REPORT, headers=changed(right, **change))
    assert problem(answer) == (401, "SIGNATURE_INVALID", header)
    assert answer.json()["detail"].startswith(f"{header}: ")
    for secret in (right["x-signature"], key.secret[:16], "canary", right["x-content-sha256"]):
        assert secret not in answer.text
    # Nothing was used up by what was refused.
    assert (
        await front.client.post("/reports", content=REPORT, headers=right)
    ).status_code == 201, answer.text


async def test_what_was_signed_is_what_is_served(front: Front) -> None:
    key = await front.key()
    right = signed(key, "GET", "/reports?page_size=1")
    for method, target in (
        ("POST", "/reports?page_size=1"),
        ("GET", "/decisions?page_size=1"),
        ("GET", "/reports?page_size=2"),
        ("GET", "/reports"),
        ("GET", "/%72eports?page_size=1"),
    ):
        answer = await front.client.request(method, target, headers=right)
        assert problem(answer) == (401, "SIGNATURE_INVALID", "x-signature"), target
    # A query that the first version would not cover.
    plain = signed(key, "GET", "/reports")
    answer = await front.client.get("/reports?status=done", headers=plain)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "x-signature-version")
    assert (await front.client.get("/reports?page_size=1", headers=right)).status_code == 200


async def test_a_key_and_a_signature_are_one_too_many(front: Front) -> None:
    key = await front.key()
    given = {**signed(key, "GET", "/reports"), "Authorization": f"Bearer {key.text}"}
    answer = await front.client.get("/reports", headers=given)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "authorization")


async def test_of_two_hundred_copies_at_once_one_is_served(front: Front) -> None:
    key = await front.key()
    other = await front.gateway()
    fields = signed(key, "POST", "/reports", REPORT)
    answers = await asyncio.gather(
        *(
            client.post("/reports", content=REPORT, headers=fields)
            for client in (front.client, other)
            for _ in range(100)
        )
    )
    told = [problem(one) if one.status_code != 201 else (201, "", "") for one in answers]
    assert sorted(set(told)) == [(201, "", ""), (401, "REPLAYED", "x-nonce")]
    assert told.count((201, "", "")) == 1
    assert await reports(front, key) == 1


async def test_a_replay_is_refused_after_a_restart_and_elsewhere(front: Front) -> None:
    key = await front.key()
    fields = signed(key, "POST", "/reports", REPORT)
    assert (await front.client.post("/reports", content=REPORT, headers=fields)).status_code == 201
    # Nothing of the first ones' memory is here.
    other = await front.gateway(orchestrator_address=await front.orchestrator())
    for client in (front.client, other):
        answer = await client.post("/reports", content=REPORT, headers=fields)
        assert problem(answer) == (401, "REPLAYED", "x-nonce")
    assert await reports(front, key) == 1


async def test_where_nonces_cannot_be_kept_nothing_is_served(front: Front) -> None:
    key = await front.key()
    lost = "postgresql://winnow@127.0.0.1:1/winnow"
    away = await front.gateway(orchestrator_address=await front.orchestrator(database_url=lost))
    answer = await away.get("/reports", headers=signed(key, "GET", "/reports"))
    assert problem(answer)[:2] == (503, "DATABASE_UNAVAILABLE")
    nobody = await front.gateway(orchestrator_address="127.0.0.1:1")
    answer = await nobody.get("/formats", headers=signed(key, "GET", "/formats"))
    assert problem(answer)[:2] == (503, "UPSTREAM_UNAVAILABLE")


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.01)


async def test_a_streamed_body_that_does_not_fit_leaves_nothing(front: Front) -> None:
    key = await front.key()
    half = b" " * (3 << 20)
    fields = signed(key, "POST", "/reports?scanner_type=gitleaks", REPORT + half + half)
    answer = await front.client.post(
        "/reports?scanner_type=gitleaks", content=body(b"{}", half, half), headers=fields
    )
    assert problem(answer) == (401, "SIGNATURE_INVALID", "x-content-sha256")
    assert hashlib.sha256(b"{}" + half + half).hexdigest() not in answer.text
    assert await reports(front, key) == 0
    count = text(
        "SELECT count(*) FROM orchestrator.raw_chunks c JOIN access.api_keys k USING (tenant_id) "
        "WHERE key_id = :id"
    )
    assert await front.database.run(lambda c: c.execute(count, {"id": key.key_id}).scalar()) == 0
    fields = signed(key, "POST", "/reports?scanner_type=gitleaks", REPORT)
    answer = await front.client.post(
        "/reports?scanner_type=gitleaks", content=body(b"[", b"]"), headers=fields
    )
    assert answer.status_code == 201, answer.text


async def test_a_small_body_that_does_not_fit_changes_nothing(front: Front) -> None:
    key = await front.key(Role.ROLE_ADMIN)
    wanted = b'{"name": "one more", "roles": ["read"]}'
    fields = signed(key, "POST", "/keys", wanted.replace(b"read", b"raw "))
    answer = await front.client.post("/keys", content=wanted, headers=fields)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "x-content-sha256")
    listed = await front.client.get("/keys", headers=signed(key, "GET", "/keys"))
    assert [one["key_id"] for one in listed.json()["keys"]] == [key.key_id]


async def test_a_key_that_has_ended_signs_nothing(front: Front) -> None:
    key = await front.key()
    tenant = (await front.client.get("/whoami", headers=signed(key, "GET", "/whoami"))).json()[
        "tenant_id"
    ]
    await front.database.run(store_access.revoke, tenant, key.key_id, "operator")
    async with asyncio.timeout(10):
        while True:
            answer = await front.client.get("/reports", headers=signed(key, "GET", "/reports"))
            if answer.status_code != 200:
                break
            await asyncio.sleep(0.2)
    assert problem(answer)[:2] == (401, "UNAUTHENTICATED")
    # Who does not hold the key is not told how it stands.
    wrong = changed(signed(key, "GET", "/reports"), x_signature=OTHER_MAC)
    answer = await front.client.get("/reports", headers=wrong)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "x-signature")


async def test_an_older_key_signs_once_it_was_shown(front: Front) -> None:
    key = await front.key(ring=None)
    answer = await front.client.get("/reports", headers=signed(key, "GET", "/reports"))
    assert problem(answer) == (401, "SIGNATURE_INVALID", "x-api-key")
    # For as long as it is held as it was found.
    from runtime import access as access_module

    await asyncio.sleep(access_module.FRESH_SECONDS + 0.1)
    bearer = {"Authorization": f"Bearer {key.text}"}
    assert (await front.client.get("/whoami", headers=bearer)).status_code == 200
    answer = await front.client.get("/reports", headers=signed(key, "GET", "/reports"))
    assert answer.status_code == 200, answer.text


async def test_what_is_kept_signs_nothing(front: Front) -> None:
    key = await front.key()
    query = text("SELECT row_to_json(k)::text FROM access.api_keys k WHERE key_id = :id")
    row = await front.database.run(lambda c: c.execute(query, {"id": key.key_id}).scalar_one())
    assert RING.current in row
    secret = signing.signing_key(key)
    assert secret.hex() not in row
    # Nor does the digest that is kept of its secret.
    forged = {
        **signed(key, "GET", "/reports"),
        "x-signature": base64.b64encode(
            hmac.digest(key.digest, b"GET\n/reports\n", "sha256")
        ).decode(),
    }
    answer = await front.client.get("/reports", headers=forged)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "x-signature")


async def test_rotation_takes_signing_keys_along(front: Front) -> None:
    key = await front.key()
    newer = Keyring((b"n" * 32, SEALING_KEY))
    await front.database.run(store_access.rewrap, newer)
    query = text("SELECT signing_key_id, signing_key FROM access.api_keys WHERE key_id = :id")
    try:
        from winnow.seal.v1.data_key_pb2 import DataKey

        row = await front.database.run(lambda c: c.execute(query, {"id": key.key_id}).one())
        alone = Keyring((b"n" * 32,))
        kept = DataKey(key_id=row.signing_key_id, wrapped=row.signing_key)
        assert alone.open(place(key.key_id), kept) == signing.signing_key(key)
    finally:
        await front.database.run(store_access.rewrap, Keyring((SEALING_KEY, b"n" * 32)))


async def test_nonces_are_kept_until_their_requests_are_too_old(front: Front) -> None:
    key = await front.key()
    await front.client.get("/reports", headers=signed(key, "GET", "/reports"))
    query = text(
        "SELECT extract(epoch FROM kept_until - now()), extract(epoch FROM granted_until - now()) "
        "FROM access.nonces WHERE key_id = :id"
    )

    def kept(connection: Any) -> Any:
        return connection.execute(query, {"id": key.key_id}).one_or_none()

    row = await front.database.run(kept)
    # Tolerance is 300 s on both sides.
    assert row[0] > 600
    assert 800 < row[1] <= 900
    await front.database.run(signatures.sweep)
    assert await front.database.run(kept) is not None
    past = text("UPDATE access.nonces SET kept_until = now() - interval '1 s' WHERE key_id = :id")
    await front.database.run(lambda c: c.execute(past, {"id": key.key_id}) and None)
    await front.database.run(signatures.sweep)
    assert await front.database.run(kept) is None


# The standard form.


def by_rfc9421(
    key: api_keys.Shown,
    front: Front,
    method: str,
    target: str,
    content: bytes | None = None,
    covered: tuple[str, ...] = (),
    at: float = 0,
) -> dict[str, str]:
    made = message_signatures.sign(
        key,
        method,
        f"{front.url.rstrip('/')}{target}",
        content,
        "a-nonce-" + base64.urlsafe_b64encode(os.urandom(12)).decode(),
        datetime.fromtimestamp(at or time.time(), UTC),
        covered,
    )
    return dict(made)


@pytest.mark.parametrize(
    "covered", [(), ("@method", "@target-uri"), ("@method", "@request-target", "@authority")]
)
async def test_http_message_signatures(front: Front, covered: tuple[str, ...]) -> None:
    key = await front.key()
    target = "/reports?scanner_type=gitleaks"
    fields = by_rfc9421(key, front, "POST", target, REPORT, covered)
    answer = await front.client.post(target, content=REPORT, headers=fields)
    assert answer.status_code == 201, answer.text
    answer = await front.client.post(target, content=REPORT, headers=fields)
    assert problem(answer) == (401, "REPLAYED", "signature-input")


async def test_what_a_message_signature_must_cover(front: Front) -> None:
    key = await front.key()
    for target, covered in (
        ("/reports", ("@method",)),
        ("/reports", ("@path",)),
        ("/reports?status=done", ("@method", "@path")),
    ):
        fields = by_rfc9421(key, front, "GET", target, covered=covered)
        answer = await front.client.get(target, headers=fields)
        assert problem(answer) == (401, "SIGNATURE_INVALID", "signature-input")
    # A body without its digest, and one with another's.
    bare = by_rfc9421(key, front, "POST", "/reports")
    answer = await front.client.post("/reports", content=REPORT, headers=bare)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "content-digest")
    other = by_rfc9421(key, front, "POST", "/reports", b"[ ]")
    answer = await front.client.post("/reports", content=REPORT, headers=other)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "content-digest")
    assert await reports(front, key) == 0


@pytest.mark.parametrize(
    ("name", "value", "header"),
    [
        ("signature", None, "signature"),
        ("signature", f"winnow=:{OTHER_MAC}:", "signature"),
        ("signature", "canary", "signature"),
        ("signature-input", None, "signature-input"),
        ("signature-input", "canary", "signature-input"),
        ("signature-input", 'winnow=("@method" "@path")', "signature-input"),
        ("signature-input", 'a=("@method");created=1, b=("@method")', "signature-input"),
        ("content-digest", "sha-256=:AAAA:", "signature"),
        ("content-digest", "md5=:AAAA:", "content-digest"),
    ],
)
async def test_what_is_wrong_with_a_message_signature(
    front: Front, name: str, value: str | None, header: str
) -> None:
    key = await front.key()
    right = by_rfc9421(key, front, "POST", "/reports", REPORT)
    given = {n: v for n, v in {**right, name: value}.items() if v is not None}
    answer = await front.client.post("/reports", content=REPORT, headers=given)
    assert problem(answer) == (401, "SIGNATURE_INVALID", header)
    assert "canary" not in answer.text
    assert right["signature"] not in answer.text


async def test_an_old_message_signature(front: Front) -> None:
    key = await front.key()
    fields = by_rfc9421(key, front, "GET", "/reports", at=time.time() - 301)
    answer = await front.client.get("/reports", headers=fields)
    assert problem(answer) == (401, "SIGNATURE_INVALID", "signature-input")


# What the documents say.


def described(language: str, number: int = 0) -> str:
    page = (ROOT / "docs" / "signing.md").read_text()
    return page.split(f"```{language}\n")[1 + number].split("```")[0]


def test_the_vector() -> None:
    page = (ROOT / "docs" / "signing.md").read_text()
    key = vector_key()
    digest = hashlib.sha256(REPORT).digest()
    said = {
        signing.DIGEST: digest.hex(),
        signing.TIMESTAMP: "1795000000",
        signing.NONCE: "b0a5c5c2-7a45-4f5e-9d6c-1f0e8a1d2c3b",
    }
    query = "scanner_type=gitleaks"
    for version, target in ((signing.V1, ""), (signing.V2, query)):
        lines = signing.base(version, "POST", "/reports", target, said)
        made = hmac.digest(signing.signing_key(key), lines, "sha256")
        assert base64.b64encode(made).decode() in page, version
    assert signing.signing_key(key).hex() in page
    assert digest.hex() in page


def vector_key() -> api_keys.Shown:
    """The documented key: id and secret of one letter each, as no key that is made."""
    return api_keys.Shown("a" * 12, "0" * 43)


async def test_the_shell_example(front: Front, tmp_path: Path) -> None:
    key = await front.key()
    script = tmp_path / "send.sh"
    script.write_text(described("sh"))
    assert len(script.read_text().splitlines()) <= 20
    (tmp_path / "gitleaks.json").write_bytes(REPORT)
    ran = await asyncio.to_thread(
        subprocess.run,
        ["sh", str(script)],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "WINNOW_SERVER": front.url.rstrip("/"),
            "WINNOW_API_KEY": key.text,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert '"status":"done"' in ran.stdout, ran.stdout + ran.stderr
    assert await reports(front, key) == 1


@pytest.mark.parametrize("form", ["hmac", "rfc9421"])
async def test_the_command(front: Front, tmp_path: Path, form: str) -> None:
    key = await front.key()
    report = tmp_path / "report.json"
    report.write_bytes(REPORT)
    target = "/reports?scanner_type=gitleaks"
    ran = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "cli.main", "sign", "POST"),
            *(f"{front.url.rstrip('/')}{target}", "--data", str(report), "--form", form),
        ],
        env={**os.environ, "WINNOW_API_KEY": key.text},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert key.text not in ran.stdout
    fields = dict(line.split(": ", 1) for line in ran.stdout.splitlines())
    answer = await front.client.post(target, content=REPORT, headers=fields)
    assert answer.status_code == 201, answer.text
