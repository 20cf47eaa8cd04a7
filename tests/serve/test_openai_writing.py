"""Pieces in OpenAI's forms: bytes that are no text, numbers that are none, and bad ends."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt_jax.serve.api.openai_writing import (
    LEAST_LOGPROB,
    Chatting,
    Completing,
    Form,
    describe,
    events,
    usage,
)
from nanogpt_jax.serve.completions import GenerationFailed, Piece, Written
from nanogpt_jax.slots import Alternative, Drawn

HEAD = {"id": "1", "created": 0, "model": "run", "system_fingerprint": "fp"}
TOKENS = [b"a", b"\xf0\x9f", b""]
FAKE: Any = SimpleNamespace(bytes_of=TOKENS.__getitem__, special_ids={"<|bos|>": 2})
WRITTEN = (
    Written(Drawn(0, -1.0, (Alternative(1, -0.5), Alternative(2, -2.0))), 0),
    Written(Drawn(2, -3.0, (Alternative(0, -0.25), Alternative(1, -4.0))), 1),
)


def stream(form: Form, pieces: list[Piece | Exception], *, counts_usage: bool = True) -> list[Any]:
    """The data of every event."""

    class Played:
        async def __aiter__(self) -> AsyncIterator[Piece]:
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece

    async def read() -> list[str]:
        played: Any = Played()
        return [e async for e in events(form, HEAD, played, [[1, 2]], counts_usage=counts_usage)]

    texts = asyncio.run(read())
    assert all(text.startswith("data: ") and text.endswith("\n\n") for text in texts)
    datas = [text[len("data: ") : -2] for text in texts]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def test_a_token_is_its_text_or_its_bytes_or_its_name():
    assert describe(FAKE, 0, -1.0).model_dump() == {"token": "a", "logprob": -1.0, "bytes": [97]}
    assert describe(FAKE, 1, -1.0).token == "bytes:\\xf0\\x9f"
    assert describe(FAKE, 1, -1.0).bytes == [0xF0, 0x9F]
    assert (describe(FAKE, 2, -1.0).token, describe(FAKE, 2, -1.0).bytes) == ("<|bos|>", [])


@pytest.mark.parametrize("logprob", [-math.inf, math.nan])
def test_a_log_probability_that_json_cannot_write_is_the_least(logprob: float):
    assert describe(FAKE, 0, logprob).logprob == LEAST_LOGPROB


def test_a_completions_alternatives_have_the_drawn_token_among_them():
    form = Completing(FAKE, 2, ["echo"])
    [choice] = form.answer(HEAD, [Piece(0, "a", WRITTEN, 2, "length")]).model_dump()["choices"]
    assert choice["text"] == "echoa"
    assert choice["logprobs"] == {
        "tokens": ["a", "<|bos|>"],
        "token_logprobs": [-1.0, -3.0],
        "top_logprobs": [
            {"bytes:\\xf0\\x9f": -0.5, "<|bos|>": -2.0, "a": -1.0},
            {"a": -0.25, "bytes:\\xf0\\x9f": -4.0, "<|bos|>": -3.0},
        ],
        "text_offset": [4, 5],
    }


def test_a_chats_alternatives_are_as_many_as_were_asked_for():
    [event] = stream(Chatting(FAKE, 2, 0), [Piece(0, "a", WRITTEN, 2, "stop")])[:1]
    [choice] = event["choices"]
    listed = choice["logprobs"]["content"]
    assert [each["token"] for each in listed] == ["a", "<|bos|>"]
    assert [len(each["top_logprobs"]) for each in listed] == [2, 2]
    assert choice["finish_reason"] == "stop"


def test_a_server_that_ends_gives_an_abort_and_a_whole_stream():
    found = stream(
        Completing(FAKE, None, [""]), [Piece(0, "a", (), 1), Piece(0, "", (), 1, "abort")]
    )
    assert [event["choices"][0]["finish_reason"] for event in found[:2]] == [None, "abort"]
    assert found[2]["usage"]["completion_tokens"] == 1
    assert found[3] == "[DONE]"


@pytest.mark.parametrize("form", [Completing(FAKE, None, [""]), Chatting(FAKE, None, 1)])
def test_a_failure_is_the_last_event_and_nothing_looks_done(form: Form):
    found = stream(form, [Piece(0, "a", (), 1), GenerationFailed("it failed")])
    assert found[-1]["error"]["code"] == "generation_failed"
    assert found[-1]["error"]["type"] == "server_error"
    assert "[DONE]" not in found


def test_usage_is_given_only_where_it_was_asked_for():
    pieces: list[Piece | Exception] = [Piece(0, "a", (), 1, "stop")]
    assert len(stream(Completing(FAKE, None, [""]), pieces)) == 3
    assert len(stream(Completing(FAKE, None, [""]), pieces, counts_usage=False)) == 2


def test_prompts_are_counted_once_whatever_the_choices():
    counted = usage([[1, 2], [3]], [4, 5, 6, 7])
    assert (counted.prompt_tokens, counted.completion_tokens, counted.total_tokens) == (3, 22, 25)
