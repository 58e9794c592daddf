"""What submitters say, made safe to keep and reduced to one key."""

from __future__ import annotations

import pytest

from orchestrator import declaration
from runtime.errors import WinnowError
from winnow.report.v1.report_pb2 import ReportSource
from winnow.report.v1.report_service_pb2 import ReportDeclaration


@pytest.mark.parametrize(
    "spelling",
    [
        "https://git.example.com/team/app",
        "https://git.example.com/team/app.git",
        "https://git.example.com/team/app/",
        "https://user:word@GIT.example.com/team/app.git",
        "ssh://git@git.example.com:22/team/app.git",
        "git@git.example.com:team/app.git",
        "git.example.com/team/app",
    ],
)
def test_one_repository_has_one_key_however_it_is_spelt(spelling: str) -> None:
    source = ReportSource(repository=spelling)
    assert declaration.asset_key(source) == "repo:git.example.com/team/app"


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ("registry.example.com:5000/app:1.2", "image:registry.example.com:5000/app"),
        ("app@sha256:" + "0" * 64, "image:app"),
        ("app", "image:app"),
    ],
)
def test_an_images_key_is_its_name(image: str, key: str) -> None:
    assert declaration.asset_key(ReportSource(image=image)) == key


def test_nothing_known_is_no_key() -> None:
    assert declaration.asset_key(ReportSource(ref="main")) == ""


def test_secrets_in_what_is_said_do_not_stay() -> None:
    token = "ghp_" + "a1B2" * 9
    said = ReportDeclaration(
        scanner_type=" GitLeaks ",
        source=ReportSource(repository=f"https://x:{token}@git.example.com/a", ref=token),
        labels={"note": f"use {token}"},
    )
    cleaned = declaration.clean(said)
    assert cleaned.scanner_type == "gitleaks"
    assert token not in str(cleaned)


def test_what_comes_at_the_end_wins() -> None:
    merged = declaration.merge(
        ReportDeclaration(scanner_type="a", labels={"x": "1"}),
        ReportDeclaration(scanner_type="b", labels={"y": "2"}),
    )
    assert (merged.scanner_type, dict(merged.labels)) == ("b", {"x": "1", "y": "2"})


def test_limits_of_the_contract_hold_for_what_comes_late() -> None:
    with pytest.raises(WinnowError) as caught:
        declaration.merge(ReportDeclaration(), ReportDeclaration(scanner_type="x" * 65))
    assert caught.value.reason == "INVALID_ARGUMENT"
    with pytest.raises(WinnowError) as caught:
        declaration.merge(
            ReportDeclaration(source=ReportSource(repository="x" * 513)), ReportDeclaration()
        )
    assert caught.value.metadata["field"] == "source.repository"


@pytest.mark.parametrize(
    "repository",
    [
        "https://user:word@git.example.com/a",
        "https://user:w@rd@git.example.com/a",
        "https://word@git.example.com/a",
        "user:word@git.example.com/a",
        " user:w@rd@git.example.com/a",
    ],
)
def test_no_user_information_of_a_repository_stays(repository: str) -> None:
    cleaned = declaration.clean(ReportDeclaration(source=ReportSource(repository=repository)))
    assert cleaned.source.repository.removeprefix("https://") == "git.example.com/a"


def test_tokens_are_known_before_their_case_is_lost() -> None:
    token = "AKIA" + "Q3E4R5T6" * 2
    cleaned = declaration.clean(ReportDeclaration(scanner_type=token, report_format=token))
    assert token.lower() not in str(cleaned)
