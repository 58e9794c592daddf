"""Nothing vanishes: records behind other text are read, or rejected, or the
report is refused; log lines are none.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import dump, gitleaks, ingest, sarif, trufflehog

PREFIXES = [
    b"scan_1  | ",
    b"\x1b[36mscan_1 |\x1b[0m ",
    b"2026-01-01T00:00:00Z [job] {build} ",
    b"\x1e",
    b"\x00",
    b"\xc2\xa0",
    b"\xe2\x80\x8b",
    b'INF x {"chunks": 1} ',
]


@pytest.mark.parametrize("make", [gitleaks, trufflehog])
@given(st.lists(st.sampled_from([b"", *PREFIXES]), min_size=1), st.sampled_from([7, 999, 1 << 18]))
def test_prefixed_lines_are_read(make: Any, prefixes: list[bytes], size: int) -> None:
    data = b"".join(prefix + dump(make(n)) + b"\n" for n, prefix in enumerate(prefixes))
    count = len(prefixes)
    assert ingest(data, size=size).counts == (count, count, 0, 0)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"scan finished. ", b""),
        (b"\xef\xbb\xbf\xef\xbb\xbf", b""),
        (b"\x00", b"\x00"),
        (b"x", b"\nbye"),
        (b"<html>", b"</html>"),
        (b'{"level":"info","msg":"a"}\nx ', b"\n"),
        (b"[INFO] done ", b""),
    ],
)
def test_arrays_behind_other_text_are_read(before: bytes, behind: bytes, indent: Any) -> None:
    data = before + dump([gitleaks(n) for n in range(3)], indent=indent) + behind
    assert ingest(data).counts == (3, 3, 0, 0)


ONE, TWO = dump(gitleaks(1)), dump(gitleaks(2))


@pytest.mark.parametrize("size", [3, 1 << 18])
@pytest.mark.parametrize(
    ("data", "counts"),
    [
        (ONE + b" x " + TWO, (2, 2, 0, 0)),
        (ONE + b"]" + TWO, (2, 2, 0, 0)),
        (b"[" + ONE + b"] x [" + TWO + b"]", (2, 2, 0, 0)),
        (ONE + b' x {"a": 1}\n' + TWO, (3, 2, 0, 1)),
        (ONE + b" x [[1]]\n" + TWO, (3, 2, 0, 1)),
        (ONE + b" bye\x1b[0m\n" + TWO, (2, 2, 0, 0)),
        (ONE + b"\nx | " + TWO[:-20] + b"\nx | " + ONE, (3, 1, 1, 1)),
        (ONE + b"\nx | " + TWO.replace(b'"File":', b'"File" nope') + b"\n", (2, 1, 0, 1)),
        (ONE + b'\n2026 INF done {"chunks": 1, "File": "a"}\n' + TWO, (2, 2, 0, 0)),
        (ONE + b'\nx {"level": "info", "msg": "a", "Secret": "b"}\n' + TWO, (2, 2, 0, 0)),
        (ONE + b'\n{"level":"info", broken ' + TWO + b"\n" + TWO, (3, 2, 0, 1)),
        (ONE + b'\nINF x {"a":\n' + TWO + b"\n" + ONE, (4, 2, 1, 1)),
        (ONE + b"\n" + b"y" * 200_000 + TWO, (2, 2, 0, 0)),
    ],
)
def test_what_follows_on_a_line(data: bytes, counts: Any, size: int) -> None:
    assert ingest(data, size=size).counts == counts


def test_rejections_say_where() -> None:
    [rejected] = ingest(ONE + b' x {"a": 1}').rejected
    assert rejected.at_byte == len(ONE) + 3


@pytest.mark.parametrize(
    "data",
    [
        b'{"findings": null, "x": [' + ONE + b"]}",
        b"\n".join(b"| " + line for line in dump(gitleaks(), indent=1).splitlines()),
        dump(sarif({"ruleId": "a"})) + b" bye",
        dump(sarif({"ruleId": "a"})) + b'{"other": []}',
        dump(sarif({"ruleId": "a"})) + b"[]",
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(data)
    assert raised.value.reason == "REPORT_MALFORMED"
    assert "made-up" not in raised.value.message


def test_sarif_documents_one_after_another_are_all_read() -> None:
    one = sarif({"ruleId": "a"})
    assert ingest(dump(one) + b"\n" + dump(one)).counts == (2, 2, 0, 0)
    one["runs"].append(17)
    one["runs"].append({"results": {"ruleId": "lost"}})
    assert ingest(dump(one)).reasons == [(1, "WRONG_TYPE"), (2, "WRONG_TYPE")]


@given(st.text(alphabet='{}[],:"\\ \nRx1', max_size=80), st.sampled_from([1, 3, 50]))
def test_pieces_make_no_difference(text: str, size: int) -> None:
    data = (json.dumps(gitleaks()) + text + json.dumps(gitleaks(1))).encode()
    outcomes = []
    for each in (size, 1 << 18):
        try:
            outcomes.append(str(ingest(data, size=each).counts))
        except WinnowError as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1]


BANNER = "🐷🔑🐷  TruffleHog. Unearth your secrets. 🐷🔑🐷\n\n".encode()
LOG_OBJECT = b'{"level":"info-0","ts":"2026-01-01T00:00:00Z","msg":"finished scanning"}\n'
LOG_LINE = b'2026-01-01T00:00:00Z\tinfo-0\ttrufflehog\tfinished scanning\t{"chunks": 1}\n'


@pytest.mark.parametrize("data", [BANNER, LOG_OBJECT, LOG_LINE, BANNER + LOG_LINE + LOG_OBJECT])
def test_a_run_that_found_nothing_and_only_logged_is_empty(data: bytes) -> None:
    assert ingest(data, scanner="trufflehog").counts == (0, 0, 0, 0)
    with pytest.raises(WinnowError) as caught:
        ingest(data)
    assert caught.value.reason == "FORMAT_UNKNOWN"
