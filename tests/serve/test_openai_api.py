"""OpenAI's own client against the real application, and what it would never send."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from nanogpt_jax import checkpoint, slots
from nanogpt_jax.experiment import prompt_tokens
from nanogpt_jax.registry import fields_of
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.serve.api.openai_requests import ChatRequest, CompletionRequest
from nanogpt_jax.serve.engine import Finish
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.prompts import chat_prompt
from nanogpt_jax.serve.service import Service
from nanogpt_jax.serve.turns import Ticket
from nanogpt_jax.tokenization import Options
from nanogpt_jax.tokenization.char import CharTokenizer
from nanogpt_jax.tokenization.chat import Message
from nanogpt_jax.tokenization.special import SpecialTokens
from tests.runs import ANSWERS
from tests.serve.listening import listening

CAPS = Caps(rate=0, max_tokens=100, queue_length=16)  # the queue of the fixture
WAIT_SECONDS = 60.0


class Heard:
    """A listener that keeps tokens as they are."""

    def __init__(self):
        self.tokens: list[int] = []
        self.ended = threading.Event()

    def draw(self, drawn: slots.Drawn) -> bool:
        self.tokens.append(drawn.token)
        return True

    def finish(self, reason: Finish) -> None:
        self.ended.set()


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with listening(service, CAPS) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def chatting(chat_service: Service) -> Iterator[openai.OpenAI]:
    with (
        listening(chat_service, CAPS) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def ask(question: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": question}]


def test_the_run_is_listed_by_its_name_and_never_by_its_path(
    client: openai.OpenAI, service: Service
):
    [model] = client.models.list().data
    assert (model.id, model.object) == ("run", "model")
    saved = checkpoint.read_sidecar(service.current().workdir, service.current().run.step).created
    assert datetime.datetime.fromtimestamp(model.created, datetime.UTC) == (
        datetime.datetime.strptime(saved, "%Y-%m-%dT%H:%M:%S%z")
    )
    assert model.created <= time.time()
    assert client.models.retrieve("run") == model
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("another")
    assert raised.value.code == "model_not_found"


def test_a_greedy_completion_is_what_the_engine_draws(client: openai.OpenAI, service: Service):
    _, run, engine, _ = service.current()
    heard = Heard()
    tokens = prompt_tokens(run, "1 times")
    greedy = Sampling(temperature=0)
    engine.submit(slots.Request(prompt=tokens, sampling=greedy, max_tokens=9), heard, client="me")
    assert heard.ended.wait(10)
    answer = client.completions.create(model="run", prompt="1 times", max_tokens=9, temperature=0)
    [choice] = answer.choices
    assert choice.text == run.tokenizer.decode(heard.tokens)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 9)


def test_a_stream_has_the_text_of_the_whole_answer_and_the_usage_last(client: openai.OpenAI):
    asked: dict[str, Any] = {"model": "run", "prompt": "2 times", "max_tokens": 12, "seed": 5}
    whole = client.completions.create(**asked, n=2)
    stream = client.completions.create(
        **asked, n=2, stream=True, stream_options={"include_usage": True}
    )
    events = list(stream)
    assert events[-1].choices == [] and events[-1].usage == whole.usage
    assert all(event.usage is None for event in events[:-1])
    for index in range(2):
        of_choice = [e.choices[0] for e in events[:-1] if e.choices[0].index == index]
        assert "".join(choice.text for choice in of_choice) == whole.choices[index].text
        reasons = [choice.finish_reason for choice in of_choice]
        assert reasons[-1] == whole.choices[index].finish_reason
        assert not any(reasons[:-1])
    assert whole.choices[0].text != whole.choices[1].text


def test_the_seed_of_each_choice_is_one_more_than_that_of_the_one_before(client: openai.OpenAI):
    asked: dict[str, Any] = {"model": "run", "prompt": "3", "max_tokens": 10}
    both = [c.text for c in client.completions.create(**asked, seed=7, n=2).choices]
    alone = [client.completions.create(**asked, seed=s).choices[0].text for s in (7, 8)]
    assert both == alone
    assert alone[0] != alone[1]


def test_without_a_seed_answers_differ(client: openai.OpenAI):
    texts = {
        client.completions.create(model="run", prompt="3", max_tokens=16).choices[0].text
        for _ in range(4)
    }
    assert len(texts) > 1


def test_logprobs_of_a_completion_stand_beside_tokens_and_offsets(client: openai.OpenAI):
    [choice] = client.completions.create(
        model="run", prompt="1 times", max_tokens=6, logprobs=3, temperature=0
    ).choices
    found = choice.logprobs
    assert found and found.tokens and found.token_logprobs
    assert found.top_logprobs and found.text_offset
    assert "".join(found.tokens) == choice.text
    assert found.text_offset == list(range(len(choice.text)))  # one character a token
    for token, logprob, others in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert len(others) == 3
        assert others[token] == logprob
        assert max(others.values()) == pytest.approx(logprob, abs=1e-5)  # greedy: the likeliest


def test_logprobs_of_0_alternatives_list_the_drawn_tokens_alone(client: openai.OpenAI):
    [choice] = client.completions.create(
        model="run", prompt="1", max_tokens=4, logprobs=0, temperature=0
    ).choices
    assert choice.logprobs and choice.logprobs.tokens
    assert choice.logprobs.top_logprobs is None


def test_a_stop_string_ends_before_itself(client: openai.OpenAI):
    asked: dict[str, Any] = {"model": "run", "prompt": "1", "max_tokens": 30, "temperature": 0}
    text = client.completions.create(**asked).choices[0].text
    stop = text[4:6]
    [choice] = client.completions.create(**asked, stop=stop, logprobs=0).choices
    assert choice.text == text[: text.index(stop)]
    assert choice.finish_reason == "stop"
    assert choice.logprobs and "".join(choice.logprobs.tokens or []) == choice.text
    [choice] = client.completions.create(**asked, stop=["nowhere", stop]).choices
    assert choice.text == text[: text.index(stop)]


def test_prompts_are_texts_or_ids_one_or_many_and_echoed_on_request(
    client: openai.OpenAI, service: Service
):
    ids = service.current().run.tokenizer.encode("4 times").tolist()
    asked: dict[str, Any] = {"model": "run", "max_tokens": 4, "temperature": 0, "echo": True}
    texts = []
    for prompt in ("4 times", ["4 times", "4 times"], ids, [ids]):
        answer = client.completions.create(prompt=prompt, **asked)
        texts += [choice.text for choice in answer.choices]
    assert len(texts) == 5 and len(set(texts)) == 1
    assert texts[0].startswith("4 times")
    stream = client.completions.create(prompt="4 times", stream=True, **asked)
    assert "".join(event.choices[0].text for event in stream) == texts[0]


def test_the_end_of_the_context_ends_a_completion(client: openai.OpenAI):
    answer = client.completions.create(
        model="run", prompt="1" * 60, max_tokens=50, logit_bias={}, seed=3
    )
    assert answer.usage and answer.usage.completion_tokens <= 5
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_the_settings_that_are_ours_change_what_is_drawn(client: openai.OpenAI):
    asked: dict[str, Any] = {"model": "run", "prompt": "5", "max_tokens": 12, "seed": 1}
    greedy = client.completions.create(**asked, temperature=0).choices[0].text
    for setting in ({"top_k": 1}, {"min_p": 1.0}):
        answer = client.completions.create(**asked, extra_body=setting)
        assert answer.choices[0].text == greedy
    free = client.completions.create(**asked).choices[0].text
    assert free != greedy
    penalised = client.completions.create(
        **asked, temperature=0, extra_body={"repetition_penalty": 100.0}
    )
    assert len(set(penalised.choices[0].text)) > len(set(greedy))


def test_every_field_of_sampling_is_one_of_a_request():
    for request in (CompletionRequest, ChatRequest):
        assert fields_of(Sampling).keys() <= request.model_fields.keys()


def test_the_chat_run_answers_by_heart(chatting: openai.OpenAI):
    for question, answer in ANSWERS.items():
        [choice] = chatting.chat.completions.create(
            model="run", messages=ask(question), temperature=0
        ).choices
        assert choice.message.content == answer
        assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")


def test_a_chat_streams_its_role_first_and_its_log_probabilities(chatting: openai.OpenAI):
    stream = chatting.chat.completions.create(
        model="run",
        messages=[{"role": "user", "content": [{"type": "text", "text": "one?"}]}],
        temperature=0,
        stream=True,
        logprobs=True,
        top_logprobs=2,
    )
    choices = [event.choices[0] for event in stream]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == "two"
    tokens = [
        token for choice in choices if choice.logprobs for token in choice.logprobs.content or []
    ]
    assert "".join(token.token for token in tokens) == "two"
    assert b"".join(bytes(token.bytes or []) for token in tokens) == b"two"
    assert [len(token.top_logprobs) for token in tokens] == [2] * len(tokens)
    likeliest = [token.top_logprobs[0].logprob for token in tokens]
    assert [token.logprob for token in tokens] == pytest.approx(likeliest, abs=1e-5)
    assert choices[-1].finish_reason == "stop"


def fake_run(text: str, *, bos: bool = True, special: SpecialTokens = "chat") -> Any:
    """As much of a run as a prompt needs: characters of `text`, and whether documents have BOS."""
    return SimpleNamespace(
        tokenizer=CharTokenizer.train([text], 0, Options(special_tokens=special)),
        plan=SimpleNamespace(data=SimpleNamespace(bos=bos)),
        record=SimpleNamespace(corpus={"running": False}),
    )


def test_special_tokens_in_what_a_user_says_are_text():
    spelled = "<|assistant_end|>"
    run = fake_run(spelled)
    special = run.tokenizer.special_ids
    tokens, stop = chat_prompt(run, [Message("user", spelled)])
    names = ("<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>")
    assert [each for each in tokens if each in special.values()] == [special[n] for n in names]
    assert run.tokenizer.decode(tokens) == spelled
    assert stop == {special["<|bos|>"], special[spelled]}


def test_plain_dialogues_have_one_question_and_no_system():
    run = fake_run("User: one two?", bos=False, special="bos")
    said = [Message("user", "one?"), Message("assistant", "two"), Message("user", "two?")]
    tokens, stop = chat_prompt(run, said)
    assert run.tokenizer.decode(tokens) == "User: two?"
    assert stop == run.tokenizer.stop_ids
    for refused in ([Message("system", "one"), *said], said[:2]):
        with pytest.raises(Refusal) as raised:
            chat_prompt(run, refused)
        assert (raised.value.status, raised.value.fields["field"]) == (400, "messages")


def test_a_character_that_the_model_lacks_is_named_by_its_code_point_alone():
    for said in ("é", "\n", "U"):
        with pytest.raises(Refusal) as raised:
            chat_prompt(fake_run("one"), [Message("user", said)])
        assert f"(U+{ord(said):04X})" in raised.value.message
        assert "é" not in raised.value.message


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such model": ({"model": "gpt-4"}, "model", "model_not_found"),
    "a character without a token": ({"prompt": "é"}, "prompt", "invalid_text"),
    "an empty prompt": ({"prompt": ""}, "prompt", "invalid_request"),
    "no prompt": ({"prompt": []}, "prompt", "invalid_request"),
    "a token beyond the vocabulary": ({"prompt": [10**6]}, "prompt", "invalid_value"),
    "a negative token": ({"prompt": [-1]}, "prompt", "invalid_request"),
    "a long prompt": ({"prompt": "1" * 65}, "prompt", "context_length_exceeded"),
    "a huge prompt": ({"prompt": "1" * 8193}, "prompt", "string_above_max_length"),
    "too many choices": ({"prompt": ["1"] * 9, "n": 2}, "n", "invalid_value"),
    "more choices than may wait": ({"n": 9}, "n", "invalid_value"),
    "too many tokens": ({"max_tokens": 101}, "max_tokens", "invalid_value"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "invalid_request"),
    "a boolean number": ({"max_tokens": True}, "max_tokens", "invalid_request"),
    "a number as text": ({"max_tokens": "5"}, "max_tokens", "invalid_request"),
    "a fraction of a token": ({"max_tokens": 5.5}, "max_tokens", "invalid_request"),
    "a negative temperature": ({"temperature": -1}, "temperature", "invalid_request"),
    "a hot temperature": ({"temperature": 1e30}, "temperature", "invalid_request"),
    "no mass": ({"top_p": 0}, "top_p", "invalid_request"),
    "too much mass": ({"top_p": 1.0000001}, "top_p", "invalid_request"),
    "more tokens than there are": ({"top_k": 10**6}, "top_k", "invalid_value"),
    "a negative seed": ({"seed": -1}, "seed", "invalid_request"),
    "a large seed": ({"seed": 2**32}, "seed", "invalid_request"),
    "an empty stop string": ({"stop": ""}, "stop", "invalid_request"),
    "five stop strings": ({"stop": ["a"] * 5}, "stop", "invalid_request"),
    "a penalty": ({"frequency_penalty": 0.5}, "frequency_penalty", "invalid_value"),
    "a bias": ({"logit_bias": {"5": 1.0}}, "logit_bias", "invalid_value"),
    "a suffix": ({"suffix": "end"}, "suffix", "invalid_value"),
    "the best of some": ({"best_of": 2}, "best_of", "invalid_value"),
    "an echo with logprobs": ({"echo": True, "logprobs": 1}, "echo", "invalid_value"),
    "options of no stream": (
        {"stream_options": {"include_usage": True}},
        "stream_options",
        "invalid_value",
    ),
    "an unknown field": ({"max_token": 5}, "max_token", "invalid_request"),
    "an unknown field that is none": ({"<b>": 5}, "a field", "invalid_request"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_by_the_name_of_its_field(address: str, service: Service, case):
    changes, field, code = WRONG[case]
    before = service.current().engine.stats().steps
    answer = httpx.post(f"{address}/v1/completions", json={"model": "run", "prompt": "1"} | changes)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (field, code)
    assert error["message"].startswith(f"{field}: ") or code == "model_not_found"
    assert "<b>" not in answer.text and "é" not in answer.text
    assert service.current().engine.stats().steps == before


def test_null_stands_for_a_field_that_is_not_given(address: str):
    nulls = {
        name: None
        for name, field in CompletionRequest.model_fields.items()
        if not field.is_required()
    }
    answer = httpx.post(f"{address}/v1/completions", json={"model": "run", "prompt": "1"} | nulls)
    assert answer.status_code == 200, answer.text


def test_the_clients_errors_are_those_of_its_library(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="run", prompt="é")
    assert raised.value.param == "prompt"
    assert "U+00E9" in raised.value.message
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="another", prompt="1")
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="run", messages=ask("1"))
    assert "not tuned on conversations" in raised.value.message


def test_a_client_that_comes_too_often_is_told_when_to_come_again(service: Service):
    with listening(service, Caps(rate=0.01, burst=2)) as address:
        body = {"model": "run", "prompt": "1", "max_tokens": 1}
        statuses = []
        for _ in range(3):
            answer = httpx.post(f"{address}/v1/completions", json=body)
            statuses.append(answer.status_code)
        assert statuses == [200, 200, 429]
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) > 1
        answer = httpx.post(f"{address}/v1/completions", json=body | {"max_tokens": 0})
        assert answer.status_code == 400  # only what could be answered counts


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slots(
    address: str, service: Service, stream: bool, monkeypatch: pytest.MonkeyPatch
):
    engine = service.current().engine
    before = engine.stats()
    # The model waits until all eight are let go: it might be done with them before the client left.
    step, cancel, let_go = engine._slots.step, engine.cancel, threading.Event()
    cancelled: list[Ticket] = []

    def wait_and_step() -> Any:
        let_go.wait(WAIT_SECONDS)
        return step()

    def cancel_and_note(ticket: Ticket) -> None:
        cancel(ticket)
        cancelled.append(ticket)
        if len(cancelled) == 8:
            let_go.set()

    monkeypatch.setattr(engine._slots, "step", wait_and_step)
    monkeypatch.setattr(engine, "cancel", cancel_and_note)
    body = {"model": "run", "prompt": "1", "max_tokens": 60, "temperature": 0, "n": 8}
    deadline = time.monotonic() + WAIT_SECONDS
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=WAIT_SECONDS)
    with contextlib.closing(connection) as leaving:
        headers = {"content-type": "application/json"}
        asked = json.dumps(body | {"stream": stream})
        leaving.request("POST", "/v1/completions", asked, headers)
        if stream:
            with leaving.getresponse() as answer:
                assert answer.status == 200 and answer.readline()
        while (now := engine.stats()).active + now.queued < 8:
            assert time.monotonic() < deadline, now
            time.sleep(0.01)
    while (now := engine.stats()).cancelled == before.cancelled or now.active or now.queued:
        assert time.monotonic() < deadline, now
        time.sleep(0.01)
    assert now.free_slots == 4
    assert now.tokens - before.tokens < 8 * 60
