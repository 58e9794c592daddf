"""What the commands say where there is little to say, or the user is wrong."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import certificates, render
from cli.main import app
from cli.terminal import console
from tests.cli.conftest import Run

UNKNOWN = "0198c5a0-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    "arguments", [("decide", f"{UNKNOWN}.1", "x"), ("submit", "-", "--fail-on", "x")]
)
def test_a_choice_that_is_none_is_told_without_pythons_words(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "is not one of" in result.stderr
    assert "Value error" not in result.stderr


def test_an_empty_list_says_so_beside_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    render.reports(console(), [])
    written = capsys.readouterr()
    assert (written.out.split()[0], written.err) == ("report", "none\n")
    row = {"report_id": UNKNOWN, "created_at": "", "scanner_type": "x", "status": "done"}
    render.reports(console(), [row])
    assert capsys.readouterr().err == ""


async def test_plain_http_to_a_server_of_https_is_told(winnow: Run, tmp_path: Path) -> None:
    certificates.init(tmp_path / "certs", [], [], days=1, ca_days=1)
    own = tmp_path / "certs" / "gateway"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own / "cert.pem", own / "key.pem")

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        result = await winnow("reports", "--server", f"http://127.0.0.1:{port}")
    assert result.exit_code == 2
    assert result.stderr == (
        f"winnow: the connection to http://127.0.0.1:{port} broke; "
        "try again (https:// if it serves HTTPS)\n"
    )
