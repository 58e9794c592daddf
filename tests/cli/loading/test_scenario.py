"""Scenarios: the shipped ones are good, and errors say what is wrong, and where."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from cli.loading.corpus import Corpus
from cli.loading.plan import AGAIN, GOOD, Bodies, shots
from cli.loading.profiles import Burst, Constant, Ramp, Soak
from cli.loading.scenario import (
    Emitter,
    Expectations,
    Scenario,
    ScenarioError,
    Shares,
    load,
    seconds,
)
from cli.loading.telemetry import Ended, Memory, Sent

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "deploy" / "scenarios").glob("*.yaml"))

GOOD_ONE = """\
name: small
duration: 10s
emitters:
  - name: jobs
    profile: {kind: constant, rate: 5}
    share: {malformed: 0.2, replayed: 0.2, conflicting: 0.1}
"""


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "one.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def small(**more: object) -> Scenario:
    profile = {"kind": "constant", "rate": 5.0}
    emitter = {"name": "jobs", "profile": profile, **more}
    return Scenario.model_validate({"name": "small", "duration": 10.0, "emitters": [emitter]})


def test_five_are_shipped() -> None:
    names = {load(file).name for file in SHIPPED}
    assert names == {"steady", "morning-burst", "ramp-to-limit", "bad-and-replayed", "soak"}
    assert names == {file.stem for file in SHIPPED}
    assert all(load(file).expect.lost == 0 for file in SHIPPED)


def test_the_burst_is_twenty_times_the_quiet_ones_share() -> None:
    burst = load(ROOT / "deploy" / "scenarios" / "morning-burst.yaml")
    fleet, quiet = (len(shots(emitter, burst.duration, 1)) for emitter in burst.emitters)
    assert 20 <= fleet / quiet <= 22


def test_the_duration_may_be_another_one(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD_ONE)
    assert load(file).duration == 10
    assert load(file, 3.0).duration == 3
    assert [seconds(text) for text in ("90s", "1.5m", "2h", "5", "", "-1s")] == [
        *(90, 90, 7200),
        *(0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("rate: 5", "rate: -5"), ":5: emitters[0].profile.rate: input should be greater than"),
        (("rate: 5", "rate: fast"), ":5: emitters[0].profile.rate: input should be a valid number"),
        (("kind: constant", "kind: wild"), ":5: emitters[0].profile: kind must be one of"),
        (("    profile", "    profil"), ":4: emitters[0].profile: field required"),
        (("name: jobs", "name: No Name"), ":4: emitters[0].name: string should match"),
        (("malformed: 0.2", "malformed: 0.8"), ":6: emitters[0].share: the shares must not add up"),
        (("malformed:", "misformed:"), ":6: emitters[0].share.misformed: is not known here"),
        (("10s", "soon"), ":2: duration: input should be greater than 0"),
        (("rate: 5", "rate: 9999"), "it makes more than 200000 requests"),
        (("    share: ", "    keys: [a] # "), "auth key or signed needs keys"),
        (("malformed: 0.2", "unsigned: 0.2"), "share.unsigned makes sense with"),
        (
            ("    share: ", "    findings: {min: 9, max: 3} # "),
            ":6: emitters[0].findings: min must",
        ),
        (("emitters:", "emitters: ["), " is not YAML from here on"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    long = GOOD_ONE.replace("10s", "1h") if "9999" in change[1] else GOOD_ONE
    with pytest.raises(ScenarioError) as caught:
        load(written(tmp_path, long.replace(*change)))
    assert told in str(caught.value)
    # What was written is not repeated, but for names of members.
    assert not {"wild", "fast", "No Name"} & set(str(caught.value).split())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a\n- b\n",
        b"\xff\xfe\x00",
        b"a: " + b"[" * 5_000,
        b"name: " + b"x" * (300 << 10),
        b"!!python/object/apply:os.getcwd []",
        b"a: &a [1]\nb: *c\n",
        b"? [1, 2]\n: 3\n",
        b"a: 2001-99-99\n",
    ],
    ids=["empty", "list", "bytes", "deep", "large", "object", "alias", "key", "date"],
)
def test_what_is_no_scenario_is_one_clear_error(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ScenarioError, match=r"one\.yaml"):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ScenarioError, match="no such file"):
        load(Path("nowhere.yaml"))


def test_the_plan_is_the_same_for_the_same_seed_only(tmp_path: Path) -> None:
    emitter = load(written(tmp_path, GOOD_ONE)).emitters[0]
    plan = shots(emitter, 10, 1)
    assert plan == shots(emitter, 10, 1) != shots(emitter, 10, 2)
    kinds = Counter(shot.kind for shot in plan)
    assert kinds == {GOOD: 25, "malformed": 10, "replayed": 10, "conflicting": 5}


def test_nothing_is_repeated_before_there_is_something_to_repeat() -> None:
    emitter = small(auth="key", keys=["a", "b"], share={"replayed": 0.5, "conflicting": 0.5})
    plan = shots(emitter.emitters[0], 10, 3)
    assert [shot.kind for shot in plan[:2]] == [GOOD, GOOD]
    assert {shot.kind for shot in plan[2:]} == set(AGAIN)
    assert [shot.key for shot in plan[:4]] == ["a", "b", "a", "b"]


def test_bodies_are_the_same_in_any_order() -> None:
    plan = shots(small().emitters[0], 10, 1)
    one, other = Bodies(Corpus(1), 1), Bodies(Corpus(1), 1)
    forth = [one.body("jobs", shot) for shot in plan]
    assert forth == [other.body("jobs", shot) for shot in reversed(plan)][::-1]
    assert len(set(forth)) == len(plan)


def test_the_document_has_every_member() -> None:
    text = (ROOT / "docs" / "load.md").read_text()
    rows = {
        cells[0].strip(): cells[1:]
        for line in text.splitlines()
        if len(cells := line.strip("|").split("|")) > 1
    }
    assert {*Shares.model_fields} <= set(rows)
    assert {*Emitter.model_fields} - {"name", "profile"} <= set(rows)
    for kind in (Constant, Ramp, Burst, Soak):
        told = rows[kind.__name__.lower()][0]
        members = {field.alias or name for name, field in kind.model_fields.items()} - {"kind"}
        assert {word.strip("`") for word in re.findall(r"`\w+`", told)} == members
    for kind, line in (("request", Sent), ("report", Ended), ("memory", Memory)):
        assert {field.name for field in fields(line)} <= set(re.findall(r"\w+", rows[kind][0]))
    expected = text.partition("**What is expected.**")[2].partition("\n\n")[0]
    assert {*Expectations.model_fields} <= set(re.findall(r"`(\w+)`", expected))
    assert {f"`{file.name}`" for file in SHIPPED} <= set(rows)
    block = text.partition("```yaml\n")[2].partition("```")[0]
    assert Scenario.model_validate(yaml.safe_load(block)).keys == ["shop", "web"]
