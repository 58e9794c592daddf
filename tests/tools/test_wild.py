"""The pure parts of `tools.wild`: pins, excerpts, joining, labels, planting. Nothing is fetched."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.fixtures.tokens import Maker
from tools.wild import fetch, keys, label, plant, records, scanners, skeletons, values
from tools.wild.scanners import Hit

_WORDS = ["harbour", "lantern", "gravel", "thistle", "meadow", "copper", "saddle", "willow"]


@pytest.fixture
def people() -> values.People:
    return values.People(_WORDS, 1)


@pytest.fixture
def planter(people: values.People) -> plant.Planter:
    return plant.Planter(values.kinds(people), 1)


def record(**changed: object) -> records.Record:
    """A finding in ordinary source code, but for what is changed."""
    plain: records.Record = {
        "source": "app",
        "path": "app/settings.py",
        "ext": ".py",
        "line": "",
        "value": "",
        "variable": None,
        "reported_by": {"gitleaks": ["generic-api-key"]},
    }
    return plain | changed


# Pins and archives


def test_every_pin_of_the_list_is_well_formed_and_there_once() -> None:
    pins = fetch.packages(fetch.PACKAGES.read_text(encoding="utf-8"))

    assert len({(pin.registry, pin.name) for pin in pins}) == len(pins) >= 150
    assert {pin.registry for pin in pins} == {"pypi", "pypi-sdist", "npm", "debian"}


def test_a_line_that_is_no_pin_ends_the_program_without_repeating_it() -> None:
    with pytest.raises(SystemExit, match="not `registry name version`") as error:
        fetch.packages("pypi somewhere\n")

    assert "somewhere" not in str(error.value)


@pytest.mark.parametrize(
    ("package", "file"),
    [
        (fetch.Package("pypi", "ruamel-yaml", "0.18"), "ruamel.yaml-0.18-py3-none-any.whl"),
        (fetch.Package("pypi-sdist", "moto", "5.2.5"), "moto-5.2.5.tar.gz"),
        (fetch.Package("npm", "@backstage/create-app", "0.9.2"), "backstage-create-app-0.9.2.tgz"),
        (fetch.Package("debian", "mediawiki", "1:1.39"), "mediawiki_1%3a1.39_all.deb"),
    ],
)
def test_an_archive_is_known_by_its_registrys_name_for_it(
    package: fetch.Package, file: str
) -> None:
    assert package.pattern.fullmatch(file)
    assert not package.pattern.fullmatch("other-" + file)


def test_a_member_is_placed_below_its_project() -> None:
    ansible = fetch.Package("pypi", "ansible", "1")
    npm = fetch.Package("npm", "@a/b", "1")

    assert fetch.place(ansible, "ansible_collections/a/b/roles/x.yml") == ("a.b", "roles/x.yml")
    assert fetch.place(npm, "package/src/x.js") == ("a-b", "src/x.js")
    assert fetch.place(npm, "package/../../x.js") is None


def test_a_sample_keeps_to_its_limits_and_prefers_telling_files() -> None:
    sizes = {f"app/code{number}.c": 1000 for number in range(500)} | {"app/config.yml": 1000}

    chosen = fetch.sample(sizes, "seed")

    assert "app/config.yml" in chosen
    assert len(chosen) < len(sizes)
    assert chosen == fetch.sample(sizes, "seed")


def test_an_excerpt_holds_telling_lines_with_those_around_them() -> None:
    lines = ["plain"] * 50 + ["password = 'harbour12'"] + ["plain"] * 50

    kept = fetch.excerpt(lines, "seed")

    assert 51 in kept
    assert len(kept) < 10
    assert fetch.excerpt(["plain"] * 5, "seed") == []


# What scanners report


def test_the_scanners_reports_are_read_alike() -> None:
    place = {"path": "./a.py", "start_line": 3}
    native = {"rule_id": "r", "match": {"value": "v"}, "location": place}
    finding = {"path": "./a.py", "line": 3, "snippet": "v"}
    part = {"path": "./a.py", "line_num": 3, "value": "v", "variable": "n"}

    hits = [
        *scanners.read_gitleaks([{"RuleID": "r", "File": "a.py", "StartLine": 3, "Secret": "v"}]),
        *scanners.read_betterleaks({"findings": [native]}),
        *scanners.read_kingfisher({"findings": [{"rule": {"id": "set.r"}, "finding": finding}]}),
        *scanners.read_credsweeper([{"rule": "r", "line_data_list": [part]}]),
    ]

    assert [hit.tool for hit in hits] == ["gitleaks", "betterleaks", "kingfisher", "credsweeper"]
    assert {hit[1:5] for hit in hits} == {("r", "a.py", 3, "v")}


def test_hits_are_joined_by_line_and_value_with_the_cleanest_value(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/x.yml").write_text("a: 1\npassword: harbour12 # note\nport: 80\n")
    hits = [
        Hit("gitleaks", "generic", "app/x.yml", 2, "harbour12 # note"),
        Hit("credsweeper", "Password", "app/x.yml", 2, "harbour12", "password"),
        Hit("detect-secrets", "Hex", "app/x.yml", 2, "80"),
    ]

    found = list(records.join(hits, tmp_path, lambda path: None))

    assert [r["value"] for r in found] == ["harbour12", "80"]
    assert found[0]["reported_by"] == {"credsweeper": ["Password"], "gitleaks": ["generic"]}
    assert (found[0]["source"], found[0]["path"], found[0]["variable"]) == (
        "app",
        "x.yml",
        "password",
    )
    assert (found[0]["before"], found[0]["after"]) == (["a: 1"], ["port: 80", ""])


def test_the_lines_of_an_excerpt_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/x.env").write_text("A=1\nB=2\nC=3\nTOKEN=lantern99\n")

    hit = Hit("gitleaks", "generic", "app/x.env", 2, "lantern99")
    (found,) = records.join([hit], tmp_path, lambda path: [3, 4])

    assert (found["line_no"], found["line"]) == (4, "TOKEN=lantern99")


@pytest.mark.parametrize(
    ("line", "value", "name"),
    [
        ('  "apiKey": "v1"', "v1", "apiKey"),
        ("const authToken = 'v1';", "v1", "authToken"),
        ("DB_PASS=v1", "v1", "DB_PASS"),
        ("client.login('v1')", "v1", "client.login"),
        ("no name here v1", "v1", ""),
    ],
)
def test_the_name_before_a_value(line: str, value: str, name: str) -> None:
    assert records.variable_before(line, value) == name


# Labels


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"value": "changeme", "variable": "password"}, "placeholder"),
        ({"value": "${DB_PASSWORD}", "variable": "password"}, "reference"),
        ({"value": "Please enter it again", "variable": "password"}, "text"),
        ({"value": "0f" * 20, "variable": "git_commit"}, "hash"),
        ({"value": "1b4e28ba-2fa1-41d2-883f-0016d3cca427", "variable": "ref"}, "uuid"),
        (
            {"value": "q8Zr2LpX0vTn", "variable": "password", "path": "docs/setup.md"},
            "documentation",
        ),
        ({"value": "q8Zr2LpX0vTn", "variable": "password", "path": "tests/x.py"}, "test"),
        ({"value": "-----BEGIN RSA PRIVATE " + "KEY-----", "variable": "x"}, "code"),
    ],
)
def test_what_is_certainly_no_credential(changed: dict[str, object], kind: str) -> None:
    judged = label.judge(record(**changed))

    assert judged is not None
    assert (judged.label, judged.kind) == (False, kind)


def test_a_random_value_in_configuration_gets_no_label() -> None:
    assert label.judge(record(value="q8Zr2LpX0vTn", variable="db_password")) is None


def test_a_random_value_of_a_test_is_marked_as_real_looking() -> None:
    judged = [
        label.judge(record(value=value, variable="password", path="tests/x.py"))
        for value in ("q8Zr2LpX0vTn", "password")
    ]

    assert [one.test for one in judged if one] == [True, False]


# Values and planting


def test_there_are_many_kinds_of_credentials_and_all_differ(people: values.People) -> None:
    make = Maker(2)
    kinds = values.kinds(people)
    made = {kind.name: [kind.make(make) for _ in range(3)] for kind in kinds}

    assert len(kinds) >= 60
    assert all("\n" not in value and value for drawn in made.values() for value in drawn)
    assert all(len(set(drawn)) > 1 for name, drawn in made.items() if name != "default_password")


def test_the_same_seed_makes_the_same_passwords() -> None:
    drawn = [[values.People(_WORDS, 5).password() for _ in range(1)] for _ in range(2)]

    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("like", "name"),
    [
        ("DB_HOST", "API_KEY"),
        ("dbHost", "apiKey"),
        ("DbHost", "ApiKey"),
        ("db-host", "api-key"),
        ("db_host", "api_key"),
        ("app.db.hostName", "app.db.apiKey"),
    ],
)
def test_a_name_takes_on_the_style_of_its_neighbour(like: str, name: str) -> None:
    assert plant.restyled("api_key", like) == name


@pytest.mark.parametrize(
    ("suffix", "line", "expected"),
    [
        (".js", '  host: "a"', '  apiKey: "v1",'),
        (".java", '  private String hostName = "a";', '  private String apiKey = "v1";'),
        (".env", "HOST=a", "API_KEY=v1"),
        (".yml", "  host: a", "  api_key: v1"),
    ],
)
def test_a_new_line_is_spelled_like_its_neighbour(suffix: str, line: str, expected: str) -> None:
    (slot,) = plant.slots([line], suffix)
    name = "api_key"

    spelled = plant.spelled(slot, name, "v1", suffix)

    assert spelled.replace("apikey", "apiKey") == expected or (
        suffix == ".js" and spelled == '  api_key: "v1",'
    )


def test_the_ledger_says_where_every_value_stands(planter: plant.Planter) -> None:
    lines = ["[db]", "host = harbour", "port = 5432", "password = lantern", "[web]", "url = gravel"]

    fillings = [
        filling for _ in range(40) for filling in planter.fill("conf/app.ini", lines, False)
    ]

    assert {real for real, _, _ in fillings} == {True, False}
    for real, copy, plants in fillings:
        assert all(one.value in copy[one.line - 1] for one in plants)
        assert all(one.label == real for one in plants)


def test_nothing_planted_in_a_test_counts_as_true(planter: plant.Planter) -> None:
    lines = ["password = lantern", "host = harbour"]

    plants = [
        one
        for _ in range(20)
        for _, _, there in planter.fill("tests/app.ini", lines, True)
        for one in there
    ]

    assert plants
    assert not any(one.label for one in plants)


def test_a_cropped_copy_keeps_values_and_their_numbers() -> None:
    lines = [str(number) for number in range(1, 201)]
    one = plant.Plant("a", 150, "150", True, "k", "planted", False, "")

    copy, (moved,) = plant.cropped(lines, [one])

    assert len(copy) < 60
    assert copy[moved.line - 1] == "150"
    assert moved.line + moved.shift == 150


def test_a_made_project_has_both_kinds_of_files_and_a_true_ledger(
    tmp_path: Path, planter: plant.Planter, people: values.People
) -> None:
    ledger = skeletons.Projects(planter, people, 3).write(tmp_path, 40)

    assert len(ledger) > 300
    for one in ledger:
        lines = records.lines_of(tmp_path / one.path)
        assert one.value.split("\n")[0] in lines[one.line - 1]
        assert not (one.label and label.is_test(one.path))
        assert one.label == (one.why == "")


def test_json_files_of_made_projects_are_json(
    tmp_path: Path, planter: plant.Planter, people: values.People
) -> None:
    skeletons.Projects(planter, people, 4).write(tmp_path, 30)

    files = list(tmp_path.rglob("*.json"))

    assert files
    for file in files:
        json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("real", [True, False])
def test_a_key_stands_where_its_file_says(real: bool) -> None:
    make, chance = Maker(6), random.Random(6)
    for _ in range(60):
        for build in (keys.private_key_file, keys.jwks_file):
            _, lines, held = build(make, chance, real)
            text = "\n".join(lines)
            for one in held:
                assert one.value.split("\n")[0] in lines[one.line - 1]
                assert "\n".join(text.split("\n")[one.line - 1 :]).count(one.value.split("\n")[-1])
            assert real or not any(one.secret for one in held)
