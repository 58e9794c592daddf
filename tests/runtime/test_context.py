"""Request id and tenant from metadata, and back into it."""

from __future__ import annotations

import contextvars
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import context
from runtime.errors import WinnowError


def entered(*metadata: tuple[str, str | bytes]) -> dict[str, str]:
    """What goes out after a call with this metadata came in."""

    def call() -> dict[str, str]:
        context.enter(metadata)
        return dict(context.outgoing())

    return contextvars.copy_context().run(call)


def test_what_came_in_goes_out() -> None:
    given_ = (("x-request-id", "job-1.2_3"), ("x-winnow-tenant", "acme"), ("other", "x"))
    assert entered(*given_) == {"x-request-id": "job-1.2_3", "x-winnow-tenant": "acme"}


BAD = ["", "a b", "a\nb", "x" * 65, "ä", "a\n", "<script>"]


@pytest.mark.parametrize("bad", [*BAD, "sk_live_" + "a1B2c3D4" * 3])
def test_a_request_id_that_is_not_sane_is_replaced(bad: str) -> None:
    out = entered(("x-request-id", bad))
    assert uuid.UUID(out["x-request-id"]).version == 7
    assert out["x-winnow-tenant"] == "default"


@pytest.mark.parametrize("bad", BAD)
def test_a_tenant_that_is_none_is_refused_and_not_taken_for_the_default(bad: str) -> None:
    with pytest.raises(WinnowError) as caught:
        entered(("x-winnow-tenant", bad))
    assert caught.value.reason == "INVALID_ARGUMENT"


def test_binary_metadata_is_not_ours() -> None:
    out = entered(("x-request-id", b"job"), ("x-winnow-tenant", b"acme"))
    assert out["x-winnow-tenant"] == "default"
    assert out["x-request-id"] != "job"


def test_outside_of_a_call_there_is_an_id_too() -> None:
    out = contextvars.Context().run(lambda: dict(context.outgoing()))
    assert uuid.UUID(out["x-request-id"]).version == 7


@given(st.text(max_size=80))
def test_an_id_is_always_harmless_to_print(candidate: str) -> None:
    made = context.sane_request_id(candidate)
    assert made.isascii()
    assert made.isprintable()
    assert 1 <= len(made) <= 64
    assert " " not in made
