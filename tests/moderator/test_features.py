"""What the model sees: the right numbers, for any text, whoever else is in the batch."""

from __future__ import annotations

from base64 import b64encode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderator.features import SUMS, TABLE, WORDS, Extractor, Features, columns, gram_columns
from moderator.rules import pack
from moderator.stage import Subject
from moderator.stages.heuristics import STAGE
from tests.moderator.subjects import HEADER, drawn, finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence

NAMES = columns(pack())
EXTRACTOR = Extractor(NAMES)


def subject(value: str, line: str | None = None, **fields: object) -> Subject:
    text = f'key = "{value}"' if line is None else line
    evidence = PlainEvidence(value=value, match=text, variable="key")
    return Subject(finding(**fields), evidence, HEADER)  # type: ignore[arg-type]


def rows(*subjects: Subject, extractor: Extractor = EXTRACTOR) -> Features:
    STAGE.judge(subjects)
    looks = [look for look in STAGE.looks(subjects) if look is not None]
    return extractor([look.reading for look in looks], [look.judged.weighed for look in looks])


def column(name: str, of: Features, row: int = 0) -> float:
    return float(of.dense[row, NAMES.index(name)])


def test_shape_is_measured() -> None:
    of = rows(subject("abcABC123-"))
    assert column("lower", of) == pytest.approx(0.3)
    assert column("upper", of) == pytest.approx(0.3)
    assert column("digits", of) == pytest.approx(0.3)
    assert column("signs", of) == pytest.approx(0.1)
    assert column("distinct", of) == pytest.approx(1.0)
    assert column("steps", of) == pytest.approx(0.6)  # ab bc AB BC 12 23
    assert column("changes", of) == pytest.approx(0.3)
    assert column("size", of) == 10


def test_entropy_is_in_bits_and_keyboard_walks_are_seen() -> None:
    even, flat, walk = (rows(subject(text)) for text in ("abcdefgh", "aaaaaaaa", "qwertyuiop"))
    assert column("entropy", even) == pytest.approx(3.0, abs=1e-5)
    assert column("entropy", flat) == pytest.approx(0.0, abs=1e-5)
    assert column("near", walk) == pytest.approx(0.9)
    assert column("near", even) <= 0.5


def test_clues_and_reporters_are_columns() -> None:
    of = rows(
        subject(
            "your-api-key-here",
            tool="credsweeper",
            aliases=["credsweeper/Key", "gitleaks/generic-api-key"],
        ),
        subject(drawn(20), path="tests/x_test.py"),
    )
    assert column("value.your_placeholder", of) == 1
    assert column("tool.credsweeper", of) == column("tool.gitleaks", of) == 1
    assert column("tools", of) == 2
    assert column("correlated", of) == 1
    assert column("correlated", of, 1) == 0
    assert column("place.test", of, 1) == 1
    assert column("sum.path", of, 1) < 0
    assert column("heuristics", of) < column("heuristics", rows(subject(drawn(20))))


def test_equal_grams_of_different_texts_are_different_features() -> None:
    inside, before = rows(subject("zebra9", "zebra9"), subject("q7w", "zebra9 q7w")).grams
    texts = gram_columns()
    value = set(inside[texts == SUMS.index("value")].tolist()) - {-1}
    line = set(before[texts == SUMS.index("before")].tolist()) - {-1}
    assert value
    assert line
    assert not value & line


def test_missing_fields_are_empty_texts() -> None:
    bare = Subject(finding("", "", value_state=3), None, HEADER)
    of = rows(bare)
    assert column("has.value", of) == column("has.line", of) == column("has.name", of) == 0
    assert np.isfinite(of.dense).all()
    of_columns = gram_columns()
    assert (of.grams[0, of_columns == SUMS.index("words")] == -1).all()


@settings(max_examples=60)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
def test_any_text_gives_finite_rows_within_the_table(values: list[str]) -> None:
    of = rows(*(subject(value, f"{value} = {value}") for value in values))
    assert np.isfinite(of.dense).all()
    assert np.isfinite(of.scale).all()
    assert of.grams.min() >= -1
    assert of.grams.max() < TABLE + WORDS
    assert of.grams.shape == (len(values), len(gram_columns()))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    subjects = [subject(drawn(20 + n, seed=n), path=f"a/b{n}.py") for n in range(9)]
    together = rows(*subjects)
    for place, one in enumerate(subjects):
        alone = rows(one)
        for name in Features.__struct_fields__:
            assert (getattr(together, name)[place] == getattr(alone, name)[0]).all(), name


def test_columns_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="other features"):
        Extractor(NAMES[:-1])


def test_a_clue_unknown_to_the_model_is_not_fed() -> None:
    fewer = [name for name in NAMES if name != "value.your_placeholder"]
    of = rows(subject("your-api-key-here"), extractor=Extractor(fewer))
    assert of.dense.shape[1] == len(NAMES) - 1


def test_base64_of_text_is_told_from_random_letters() -> None:
    for text in ("user:someone at home", "a", "[1,2,3]"):
        assert column("readable", rows(subject(b64encode(text.encode()).decode()))) == 1
    assert column("readable", rows(subject(drawn(40)))) < 0.7
    assert column("readable", rows(subject(""))) == 0


def test_how_far_the_name_stands_from_the_value() -> None:
    near, far, after = ("key = v4lue", "key(other, more: v4lue", "v4lue is the key")
    assert column("gap", rows(subject("v4lue", near))) == 3
    assert column("gap", rows(subject("v4lue", far))) == 14
    assert column("gap", rows(subject("v4lue", after))) == -1


def test_clues_add_up_by_what_they_speak_of() -> None:
    of = rows(subject("your-api-key-here"))
    clues = {clue.id: clue.weight for clue in pack().value.clues if clue.kind == "placeholder"}
    seen = sum(weight for name, weight in clues.items() if name in NAMES and column(name, of))
    assert column("kind.placeholder", of) == pytest.approx(seen)
    assert seen < 0


def test_of_the_path_its_end_is_read() -> None:
    texts = gram_columns()
    one, other = rows(
        subject("q7w", path="a/" * 40 + "charts/values.yaml"),
        subject("q7w", path="b/" * 40 + "charts/values.yaml"),
    ).grams[:, texts == SUMS.index("folder")]
    assert (one >= 0).sum() > 20
    assert len(set(one.tolist()) & set(other.tolist())) > 10
