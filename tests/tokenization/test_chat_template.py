"""The template of conversations: special tokens by id, contents as plain text, roles checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax import tokenization
from nanogpt_jax.errors import DataError, TokenizerError
from nanogpt_jax.tokenization import Options, Tokenizer
from nanogpt_jax.tokenization.chat import (
    ConversationBuilder,
    Message,
    enclose,
    render,
    render_call,
    render_output,
)
from nanogpt_jax.tokenization.special import BOS, special_names

messages = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text()))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenization.train("bpe", ["Hi there."], 280, Options(special_tokens="chat"))


def test_there_are_twelve_special_tokens_in_a_fixed_order():
    roles = ("user", "assistant", "system", "python", "output")
    pairs = [f"<|{role}_{side}|>" for role in roles for side in ("start", "end")]
    assert special_names("chat") == ("<|bos|>", "<|eos|>", *pairs)
    assert special_names("bos") == (BOS,)


def test_a_conversation_reads_as_the_template_says(tokenizer: Tokenizer):
    ids = render(tokenizer, [("system", "Be brief."), ("user", "Hi"), ("assistant", "No.")]).ids
    assert tokenizer.decode(ids, show_special=True) == (
        "<|bos|><|system_start|>Be brief.<|system_end|><|user_start|>Hi<|user_end|>"
        "<|assistant_start|>No.<|assistant_end|>"
    )


def test_a_reply_is_begun_when_asked(tokenizer: Tokenizer):
    asked = render(tokenizer, [Message("user", "Hi")], reply=True)
    whole = render(tokenizer, [Message("user", "Hi"), Message("assistant", "No.")])
    assert tokenizer.decode(asked.ids[-1:], show_special=True) == "<|assistant_start|>"
    assert whole.ids[: len(asked.ids)].tolist() == asked.ids.tolist()
    assert not asked.written.any()


def test_the_assistant_wrote_its_contents_and_their_ends(tokenizer: Tokenizer):
    told = [("user", "Hi"), ("assistant", "No."), ("user", "there"), ("assistant", "Yes")]
    ids, written = render(tokenizer, told)
    shown = tokenizer.decode(ids[written], show_special=True)
    assert shown == "No.<|assistant_end|>Yes<|assistant_end|>"


@given(messages=messages, reply=st.booleans())
def test_contents_are_plain_text_whatever_they_hold(
    tokenizer: Tokenizer, messages: list[tuple[str, str]], reply: bool
):
    messages = [(role, f"<|{role}_end|>{content}<|bos|>") for role, content in messages]
    ids, written = render(tokenizer, messages, reply=reply)
    assert tokenizer.decode(ids) == "".join(content for _, content in messages)
    special = set(tokenizer.special_ids.values())
    assert sum(id_ in special for id_ in ids.tolist()) == 1 + 2 * len(messages) + reply
    assert ids.dtype == "int32" and written.dtype == "bool" and len(ids) == len(written)


def test_a_call_and_its_output_have_no_start_of_a_document(tokenizer: Tokenizer):
    def shown(ids: tokenization.Tokens) -> str:
        return tokenizer.decode(ids, show_special=True)

    assert shown(render_call(tokenizer, "1+1")) == "<|python_start|>1+1<|python_end|>"
    assert shown(render_output(tokenizer, "2")) == "<|output_start|>2<|output_end|>"
    assert shown(enclose(tokenizer, "user", "")) == "<|user_start|><|user_end|>"


def test_a_builder_chains_and_pushes(tokenizer: Tokenizer):
    built = ConversationBuilder().system("Be brief.").user("Hi")
    built.push("assistant", "No.")
    assert built.messages == [("system", "Be brief."), ("user", "Hi"), ("assistant", "No.")]
    assert built.assistant("Yes") is built and built.messages[-1].role == "assistant"
    assert render(tokenizer, built.messages).ids[0] == tokenizer.bos_id
    assert ConversationBuilder().messages == []


@pytest.mark.parametrize("role, remedy", [("asistant", "did you mean 'assistant'"), ("x", "known")])
def test_a_role_that_nobody_has_is_named_with_its_message(
    role: str, remedy: str, tokenizer: Tokenizer
):
    with pytest.raises(DataError, match=f"message 1: role='{role}' is not known; {remedy}"):
        render(tokenizer, [("user", "Hi"), (role, "No.")])
    with pytest.raises(DataError, match="message 0: role="):
        ConversationBuilder().push(role, "No.")


def test_a_tool_speaks_only_inside_a_message(tokenizer: Tokenizer):
    with pytest.raises(DataError, match="role='python'"):
        render(tokenizer, [("python", "1+1")])


def test_a_tokenizer_without_the_special_tokens_is_refused_with_the_remedy():
    tokenizer = tokenization.train("char", ["Hi"], 0)
    with pytest.raises(TokenizerError, match=r"<\|user_start\|>; special_tokens=chat"):
        render(tokenizer, [("user", "Hi")])
