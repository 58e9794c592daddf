"""Log lines: the same keys always, and no secret ever."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from runtime import log
from tests.runtime.conftest import Logged

# Assembled here, so that nothing looks like a credential in this file.
TOKEN = "gh" + "p_" + "aB3dE6gH9" * 4

_PROGRAM = """
import json, logging, sys
from runtime import log
log.configure("sample", sys.argv[1])
logger = log.get_logger()
token = sys.argv[2]
"""


def lines(program: str, level: str = "INFO") -> list[dict[str, Any]]:
    """What a process that runs `program` logs; `token` is TOKEN there."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + program, level, TOKEN],
        check=True,
        capture_output=True,
        text=True,
    )
    assert TOKEN not in done.stdout + done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def test_keys_are_always_there_and_first() -> None:
    bare, full = lines(
        "logger.info('start')\n"
        "with log.bind(request_id='r', report_id='i', tenant='t', asset_key='a'):\n"
        "    logger.warning('end', status='done', extra=1)\n"
    )
    for line in (bare, full):
        assert list(line)[: len(log.KEYS)] == list(log.KEYS)
        assert line["service"] == "sample"
        assert line["timestamp"].endswith("Z")
    assert (bare["level"], bare["action"], bare["request_id"], bare["status"]) == (
        "info",
        "start",
        "",
        "",
    )
    assert (full["request_id"], full["report_id"], full["tenant"], full["asset_key"]) == (
        "r",
        "i",
        "t",
        "a",
    )
    assert (full["level"], full["status"], full["extra"]) == ("warning", "done", 1)


def test_a_secret_is_redacted_wherever_it_stands() -> None:
    written = lines(
        "logger.info(f'message {token}')\n"
        "logger.info('a', value=token, nested={'k': [token, {token: (token,)}]})\n"
        "logger.info('a', raw=token.encode())\n"
        "logger.info('a', thing=ValueError(token))\n"
        "with log.bind(note=token):\n"
        "    logger.info('a')\n"
        "logging.getLogger('other').error('for %s', token)\n"
        "logging.getLogger('other').error('a', extra={'note': token})\n"
    )
    assert len(written) == 7
    assert written[0]["action"] == "message [REDACTED]"
    assert written[2]["raw"] == f"({len(TOKEN)} bytes)"
    assert written[5]["action"] == "for [REDACTED]"


@pytest.mark.parametrize(
    "call",
    [
        "logger.error('failed', exc_info=error)",
        "logger.error('failed', exc_info=True)",
        "logger.exception('failed')",
        "logging.getLogger('other').exception('failed')",
        "logging.getLogger('other').error('failed', exc_info=error)",
    ],
)
def test_an_exceptions_text_is_not_printed(call: str) -> None:
    (line,) = lines(
        "def work():\n    raise KeyError('a plain-looking secret')\n"
        f"try:\n    work()\nexcept KeyError as error:\n    {call}\n"
    )
    assert line["error_type"] == "KeyError"
    assert line["error_at"][-1].startswith("__main__:work:")
    assert "plain-looking" not in json.dumps(line)


def test_levels() -> None:
    program = "logger.debug('d'); logger.info('i'); logger.error('e')\nlogging.info('other')"
    assert [line["action"] for line in lines(program, "DEBUG")] == ["d", "i", "e"]
    assert [line["action"] for line in lines(program, "error")] == ["e"]


def test_one_line_each() -> None:
    (line,) = lines("logger.info('a\\nb', note='c\\u2028d\\x1b[31m')")
    assert line["action"] == "a\nb"


def test_the_standard_librarys_logging_goes_the_same_way(logged: Logged) -> None:
    logging.getLogger("third.party").warning("said %s", TOKEN)
    (line,) = logged()
    assert (line["service"], line["action"]) == ("test", "said [REDACTED]")


def test_a_log_that_nobody_can_take_is_nobodys_failure() -> None:
    program = _PROGRAM + "for _ in range(10_000): logger.warning('sample', text='x' * 100)"
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", program + "\nsys.stderr.write('went on')", "INFO", TOKEN],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr.startswith("went on")
