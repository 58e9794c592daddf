"""Writes made-up values into copies of real files and keeps a ledger of where.

A value goes where a person would have put it: into an assignment that already
holds something of the kind, or into a new line beside an ordinary assignment,
in that line's own syntax and naming style. The same places of the same file are
filled a second time with what is no credential, so that nothing but the value,
its name and its surroundings tells them apart.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tests.fixtures.tokens import Maker
from tools.wild.label import is_document, is_test
from tools.wild.values import PUBLIC, Kind, false_value

_FILES_A_SOURCE = 7
_PLANTS_A_FILE = 3
# Scanners read line by line; more of a long file around its plants would only cost time.
_LINES_AROUND = 25

# Endings of formats in which a value may stand without quotes.
_BARE = {".env", ".yml", ".yaml", ".ini", ".cfg", ".conf", ".properties", ".sh", ".example", ".j2"}
# Formats whose entries in braces are separated by commas.
_COMMAS = {".json", ".js", ".ts", ".tsx", ".jsx", ".py", ".php", ".rb", ".mjs", ".cjs"}
_ASSIGNMENT = re.compile(
    r"""^(?P<lead>\s*(?:[\w.<>,\[\]$@&*-]+\s+){0,4}["'$@:]?)
    (?P<name>[A-Za-z][\w.-]{1,40}?)
    (?P<sep>["']?\s*(?:=>|:=|=|:)\s*)
    (?P<value>"[^"\\{}()<>$]{0,120}"|'[^'\\{}()<>$]{0,120}'|[^\s"'`{}()\[\]<>$,;|&*!%@\#]{1,60})
    (?P<tail>\s*[,;]?)$""",
    re.VERBOSE,
)
_CREDENTIAL = re.compile(
    r"passw|passwd|pwd$|secret|token|api_?key|access_?key|private_?key|credential|auth_?key", re.I
)


class Plant(NamedTuple):
    """One planted value: where (`line` from 1), what, and what it stands for.

    `shift` is how many lines of the whole file stand before the ones that were kept.
    """

    path: str
    line: int
    value: str
    label: bool
    kind: str
    origin: str
    test: bool
    why: str
    shift: int = 0


class Slot(NamedTuple):
    """A place for a value. `replaces` is false where a new line goes before line `at` (from 0)."""

    at: int
    match: re.Match[str]
    replaces: bool


def restyled(name: str, like: str) -> str:
    """A snake-case name in the style of another one: UPPER, kebab, camel, Pascal, dotted."""
    stem, dot, last = like.rpartition(".")
    if dot:
        return stem + dot + restyled(name, last)
    parts = name.split("_")
    if like.isupper():
        return "_".join(parts).upper()
    if "-" in like:
        return "-".join(parts)
    if "_" not in like and like[:1].isupper():
        return "".join(part.capitalize() for part in parts)
    if "_" not in like and any(letter.isupper() for letter in like):
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return "_".join(parts)


def slots(lines: list[str], suffix: str) -> list[Slot]:
    """Every place of a file where a value could stand."""
    found = []
    for at, line in enumerate(lines):
        match = _ASSIGNMENT.match(line) if len(line) < 200 else None
        if match is None or (match["value"][0] not in "\"'" and suffix not in _BARE):
            continue
        found.append(Slot(at, match, _CREDENTIAL.search(match["name"]) is not None))
    return found


def spelled(slot: Slot, name: str, value: str, suffix: str) -> str:
    """The slot's line with that value, under `name` where it is a new line."""
    match = slot.match
    old = match["value"]
    quote = old[0] if old[0] in "\"'" else ""
    if quote and quote in value:
        quote = "'" if quote == '"' else '"'
    tail = match["tail"]
    if slot.replaces:
        name = match["name"]
    else:
        name = restyled(name, match["name"])
        # Inside braces a new entry in front of the last one needs the comma that the last lacks.
        if not tail.strip() and suffix in _COMMAS and (":" in match["sep"] or ">" in match["sep"]):
            tail = ","
    return f"{match['lead']}{name}{match['sep']}{quote}{value}{quote}{tail}"


def fitting(kinds: list[Kind], name: str, chance: random.Random) -> Kind:
    """A kind that is kept under such a name; any kind where no name is alike."""
    plain = re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower()
    words = set(plain.split("_"))
    alike = [kind for kind in kinds if any(set(n.split("_")) <= words for n in kind.names)]
    return chance.choice(alike or kinds)


def _bare_fits(value: str) -> bool:
    return not re.search(r"[\s#$\"'`\\;&|<>!*@%{}]|^[-:?]|: ", value)


class Planter:
    """Fills the slots of real files; every choice comes from one seed."""

    def __init__(self, kinds: list[Kind], seed: int) -> None:
        self._words = [kind for kind in kinds if kind.origin == "planted_word"]
        self._defaults = [kind for kind in kinds if kind.origin == "default_password"]
        self._providers = [kind for kind in kinds if kind.origin == "planted"]
        self._chance = random.Random(seed)
        self._make = Maker(seed)

    def kind(self, name: str, plain_words: bool = True) -> Kind:
        """A kind for a name: of three, one that people made up; for a password two of three."""
        password = re.search(r"pass|pwd", name, re.IGNORECASE) is not None
        human = 0.75 if password else 0.22 if plain_words else 0.0
        if self._chance.random() < human:
            pool = self._words if self._chance.random() < 0.85 else self._defaults
            return pool[0]
        return fitting(self._providers, name, self._chance)

    def _names(self, slot: Slot) -> tuple[str, Kind]:
        if slot.replaces:
            return slot.match["name"], self.kind(slot.match["name"])
        kind = self.kind("")
        return self._chance.choice(kind.names), kind

    def _false(self, slot: Slot, name: str) -> tuple[str, str, str]:
        """Name, kind and value of what is no credential; a slot with a name keeps it."""
        if not slot.replaces and self._chance.random() < 0.5:
            kind, names, make = self._chance.choice(PUBLIC)
            return self._chance.choice(names.split()), kind, make(self._make)
        return name, *false_value(self._make, re.sub(r"\W", "_", name).lower())

    def fill(
        self, path: str, lines: list[str], test: bool
    ) -> Iterator[tuple[bool, list[str], list[Plant]]]:
        """The file with credentials, then with what is none: real or not, lines, ledger."""
        suffix = PurePosixPath(path).suffix or PurePosixPath(path).name
        places = slots(lines, suffix)
        if not places:
            return
        known = [place for place in places if place.replaces]
        chosen = self._chance.sample(places, min(len(places), self._chance.randint(1, 2)))
        chosen += self._chance.sample(known, min(len(known), 1))
        chosen = sorted({place.at: place for place in chosen}.values())[:_PLANTS_A_FILE]
        fillings = [(slot, *self._names(slot)) for slot in chosen]
        for real in (True, False):
            copy = list(lines)
            ledger: list[Plant] = []
            # From the end on, so that the earlier places keep their numbers.
            for slot, name, kind in reversed(fillings):
                origin, label, title = kind.origin, real and not test, kind.name
                if real:
                    value = kind.make(self._make)
                else:
                    name, title, value = self._false(slot, name)
                    origin = "planted"
                quoted = slot.match["value"][0] in "\"'"
                if "\n" in value or not (quoted or _bare_fits(value)):
                    continue
                line = spelled(slot, name, value, suffix)
                copy[slot.at : slot.at + slot.replaces] = [line]
                ledger = [
                    entry if slot.replaces else entry._replace(line=entry.line + 1)
                    for entry in ledger
                ]
                why = "" if label else "value of a test" if real else title
                ledger.append(
                    Plant(path, slot.at + 1, value, label, title, origin, real and test, why)
                )
            if ledger:
                yield real, copy, ledger


def _test_path(path: str, chance: random.Random) -> str:
    folder = chance.choice(
        ("tests", "test", "spec", "src/test/resources", "tests/fixtures", "testdata", "tests/unit")
    )
    return f"{folder}/{path}"


def cropped(lines: list[str], plants: list[Plant]) -> tuple[list[str], list[Plant]]:
    """The lines around the plants, and the ledger for them."""
    first = max(0, min(plant.line for plant in plants) - 1 - _LINES_AROUND)
    last = max(plant.line for plant in plants) + _LINES_AROUND
    moved = [plant._replace(line=plant.line - first, shift=first) for plant in plants]
    return lines[first:last], moved


def plant_tree(tree: Path, out: Path, planter: Planter, seed: int) -> list[Plant]:
    """Plants into copies of the files of `tree`; paths in the ledger are relative to `out`.

    Copies with credentials go to `out/true/SOURCE`, copies with look-alikes to
    `out/false/SOURCE`.
    """
    chance = random.Random(seed)
    ledger: list[Plant] = []
    for source in sorted(tree.iterdir()):
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        chance.shuffle(files)
        done = 0
        for file in files:
            inside = str(file.relative_to(source))
            if is_document(inside) or is_test(inside) or file.stat().st_size > 40_000:
                continue
            lines = file.read_bytes().decode("utf-8", "replace").split("\n")
            test = chance.random() < 0.15
            path = _test_path(inside, chance) if test else inside
            planted = list(planter.fill(path, lines, test))
            for real, whole, places in planted:
                copy, plants = cropped(whole, places)
                folder = out / ("true" if real else "false") / source.name
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("\n".join(copy), encoding="utf-8")
                place = str(folder.relative_to(out))
                ledger += [plant._replace(path=f"{place}/{path}") for plant in plants]
            done += bool(planted)
            if done == _FILES_A_SOURCE:
                break
    return ledger


def same_value(reported: str, planted: str) -> bool:
    """Whether a scanner's value is the planted one or a telling part of it."""
    return reported == planted or (
        len(reported) >= min(6, len(planted)) and (reported in planted or planted in reported)
    )


def by_place(ledger: list[Plant]) -> dict[str, dict[int, Plant]]:
    """The ledger by path and line."""
    places: dict[str, dict[int, Plant]] = defaultdict(dict)
    for plant in ledger:
        places[plant.path][plant.line] = plant
    return places
