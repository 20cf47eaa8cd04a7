"""Conversations: what is read as one, what is learned of it, and what becomes of the others."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from nanogpt_jax import tokenization
from nanogpt_jax.data.conversations import (
    Chat,
    Conversations,
    Rendering,
    Turns,
    conversations_of,
    read_conversation,
)
from nanogpt_jax.data.corpus import BadRecords, Corpus, Documents, Parts, Stream
from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.data.parts import open_parts
from nanogpt_jax.data.pipeline import train_batches
from nanogpt_jax.data.store import open_store
from nanogpt_jax.data.streams import StreamedDocuments
from nanogpt_jax.errors import DataError, TokenizerError
from nanogpt_jax.tokenization import Options, Tokenizer
from nanogpt_jax.tokenization.chat import render

TALK = [("user", "Hi."), ("assistant", "Hello!"), ("user", "Bye."), ("assistant", "Bye!")]
OPENAI = json.dumps({"messages": [{"role": role, "content": said} for role, said in TALK]})
CHAT = Chat("assistant", BadRecords())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenization.train("char", [OPENAI], 0, Options(special_tokens="chat"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path))


def corpus_of(*texts: str) -> Corpus:
    parts = Parts(Documents(list(texts)), Documents(list(texts)))
    return Corpus("talks", json.dumps(texts), running=False, read=lambda _: parts)


@pytest.mark.parametrize(
    "record",
    [
        OPENAI,
        json.dumps([{"role": role, "content": said} for role, said in TALK]),
        json.dumps(
            {
                "messages": [
                    {"role": role, "content": [{"type": "text", "text": said}]}
                    for role, said in TALK
                ]
            }
        ),
        "User: Hi. Assistant: Hello! User: Bye. Assistant: Bye! </s>",
        json.dumps("User: Hi. Assistant: Hello! User: Bye. Assistant: Bye! </s>"),
        "\n User:Hi.\nAssistant: Hello!\nUser: Bye.\nAssistant: Bye!</s>\n",
    ],
)
def test_one_conversation_has_many_forms(record: str):
    assert read_conversation(record) == TALK


def test_a_name_inside_a_word_or_in_other_letters_is_no_turn():
    record = "User: What is a SuperUser: a user: or both? Assistant: Neither."
    assert read_conversation(record) == [
        ("user", "What is a SuperUser: a user: or both?"),
        ("assistant", "Neither."),
    ]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ("", "no message of the assistant"),
        ("Good morning. User: Hi. Assistant: Hello!", "begins with 'Good morning.'"),
        ('{"messages": [', "is not JSON"),
        ('{"text": "Hi."}', "has no list of messages"),
        ('{"messages": "Hi."}', "has no list of messages"),
        ('["Hi."]', "message 0 is 'Hi.', no object"),
        ('[{"role": "user", "content": "Hi."}]', "no message of the assistant"),
        ('[{"role": "tool", "content": "Hi."}]', "message 0 has the role 'tool'"),
        ('[{"role": ["user"], "content": "Hi."}]', "message 0 has the role"),
        ('[{"role": "assistant", "content": null}]', "message 0 has no text"),
        ('[{"role": "assistant", "content": [{"image": "x"}]}]', "message 0 has no text"),
    ],
)
def test_what_is_no_conversation_is_said(record: str, told: str):
    with pytest.raises(DataError) as refused:
        read_conversation(record)
    assert told in str(refused.value)


def test_the_first_bad_record_is_named_and_ends_the_reading():
    corpus = conversations_of(corpus_of(OPENAI, "nonsense", OPENAI), BadRecords())
    assert isinstance(corpus, Corpus)
    with pytest.raises(DataError, match=r"talks, record 1, begins with 'nonsense'.*on_bad_record"):
        list(corpus.read(0.1).train.texts)


def test_bad_records_are_skipped_up_to_a_limit_and_counted_once():
    texts = [OPENAI, "nonsense", OPENAI, "more of it"]
    bad = BadRecords(limit=4)
    corpus = conversations_of(corpus_of(*texts), bad)
    assert isinstance(corpus, Corpus)
    for _ in range(2):
        for part in corpus.read(0.1):
            assert list(part.texts) == [OPENAI, OPENAI]
    assert bad.skipped == 4
    strict = conversations_of(corpus_of(*texts), BadRecords(limit=1))
    assert isinstance(strict, Corpus)
    with pytest.raises(DataError, match="after 1 others were skipped"):
        list(strict.read(0.1).train.texts)


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_the_loss_is_on_what_the_assistant_writes_and_its_end_or_on_all(
    tokenizer: Tokenizer, loss_on: Any
):
    store = open_store(corpus_of(OPENAI), Rendering(tokenizer), 0.1)
    rows = Conversations(store.train, 64, tokenizer, Chat(loss_on, BadRecords()))
    batch = rows.build(np.array([0]))
    rendered = render(tokenizer, TALK)
    count = len(rendered.ids)
    assert batch.inputs_BT[0, :count].tolist() == rendered.ids.tolist()
    expected = rendered.written[1:] if loss_on == "assistant" else np.ones(count - 1)
    assert batch.weights_BT[0, : count - 1].tolist() == expected.tolist()
    # After the last token stands the end of the document, which nobody wrote.
    assert batch.weights_BT[0, count - 1 :].sum() == (loss_on == "all")
    learned = batch.targets_BT[0][batch.weights_BT[0] == 1]
    if loss_on == "assistant":
        assert tokenizer.decode(learned.tolist()) == "Hello!Bye!"
        assert (learned == Turns.of(tokenizer).end).sum() == 2


def test_a_conversation_that_does_not_fit_is_never_cropped(tokenizer: Tokenizer):
    store = open_store(corpus_of(OPENAI, "User: Hi. Assistant: Bye."), Rendering(tokenizer), 0.1)
    with pytest.raises(DataError, match=r"conversation 0 has 26 tokens .* room for 21.*seq_len"):
        Conversations(store.train, 20, tokenizer, CHAT)
    skipping = Conversations(store.train, 20, tokenizer, Chat("all", BadRecords(1)))
    assert skipping.count == 1
    assert "Bye." in tokenizer.decode(skipping.build(np.array([0])).inputs_BT[0].tolist())
    assert Conversations(store.train, 25, tokenizer, CHAT).count == 2, "26 tokens, 25 to predict"


def test_a_question_is_all_before_the_last_answer(tokenizer: Tokenizer):
    store = open_store(corpus_of(OPENAI), Rendering(tokenizer), 0.1)
    ((prompt, answer),) = Conversations(store.train, 64, tokenizer, CHAT).questions(5)
    assert prompt == render(tokenizer, TALK[:3], reply=True).ids.tolist()
    assert tokenizer.decode(answer) == "Bye!"


def test_a_tokenizer_without_the_tokens_of_a_chat_is_refused():
    plain = tokenization.train("char", [OPENAI], 0)
    with pytest.raises(TokenizerError, match="special_tokens=chat"):
        Turns.of(plain)


def test_streamed_conversations_are_learned_like_kept_ones(tokenizer: Tokenizer):
    long = f"User: {'Hi.' * 30} Assistant: Bye."
    texts = ["User: Hi. Assistant: Bye!", OPENAI, long, "no conversation"]
    chat = Chat("assistant", BadRecords(10))
    kept, streamed = (
        open_parts(corpus, tokenizer, 0.0, held_out_rows=1, length=40, chat=chat)
        for corpus in (corpus_of(*texts), talks_of(texts))
    )
    fields: dict[str, Any] = dict(form="chat", window="sequential", length=40, batch_size=2)
    one, other = (
        next(
            train_batches(
                parts, tokenizer, val_fraction=0.0, seed=0, prefetch=0, chat=chat, **fields
            )
        )
        for parts in (kept, streamed)
    )
    for ours, theirs in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def talks_of(texts: Sequence[str]) -> Stream:
    """A stream whose position is how many records were given."""

    def documents(position: Any) -> Iterator[tuple[str, Any]]:
        for number in range(position or 0, len(texts)):
            yield texts[number], number + 1

    return Stream("talks", "talks", documents)


def test_bad_records_of_a_stream_are_counted_once_wherever_it_is_read_from():
    bad = BadRecords(limit=10)
    stream = conversations_of(talks_of(["nonsense", OPENAI, "nonsense", OPENAI]), bad)
    assert isinstance(stream, Stream)
    for position in (None, 1, 2):
        assert {text for text, _ in stream.documents(position)} == {OPENAI}
    assert bad.skipped == 2


def test_long_conversations_of_a_stream_are_counted_once_each(tokenizer: Tokenizer):
    texts = [OPENAI, "User: Hi. Assistant: Bye.", OPENAI, OPENAI]
    bad = BadRecords(limit=3)
    feed = StreamedDocuments(
        talks_of(texts), tokenizer, 20, val_fraction=0.0, chat=Chat("all", bad)
    )
    rows = feed.take(3).inputs_BT  # three times through the stream
    assert (rows == rows[0]).all()
    assert bad.skipped == 3
    strict = Chat("all", BadRecords(limit=2))
    with pytest.raises(DataError, match=r"talks, conversation 3 has 26 tokens.*after 2 others"):
        StreamedDocuments(talks_of(texts), tokenizer, 20, val_fraction=0.0, chat=strict).take(2)


def test_long_conversations_of_both_parts_are_counted(tokenizer: Tokenizer):
    short, bad = "User: Hi. Assistant: Bye.", BadRecords(limit=10)
    chat, corpus = Chat("all", bad), corpus_of(OPENAI, short)
    parts = open_parts(corpus, tokenizer, 0.1, held_out_rows=1, length=20, chat=chat)
    HeldOut(parts, tokenizer, documents=True, length=20, batch_size=1, rows=1, chat=chat)
    assert bad.skipped == 1
    train_batches(
        parts,
        tokenizer,
        form="chat",
        window="sequential",
        length=20,
        batch_size=1,
        val_fraction=0.1,
        seed=0,
        prefetch=0,
        chat=chat,
    )
    assert bad.skipped == 2, "the first of each part"


def test_each_run_tells_of_its_own_skipped_records_and_of_no_more_than_ten(
    caplog: pytest.LogCaptureFixture,
):
    for run in range(2):
        caplog.clear()
        bad = BadRecords(limit=20)
        for record in range(12):
            bad(f"record {record} of run {run}", "mend it")
        assert [each.getMessage() for each in caplog.records] == [
            f"skipped: record {record} of run {run}" for record in range(10)
        ]
