"""What a request asks to be continued, as the ids that the served run reads.

A refusal names the field and a code point, never the text. Lengths are checked by the routes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.experiment import Loaded, Opened, prompt_tokens
from nanogpt_jax.serve.api import Refusal
from nanogpt_jax.tokenization.chat import Message, render
from nanogpt_jax.tokenization.special import end_of


def chat_prompt(
    run: Loaded, said: Sequence[Message], field: str = "messages"
) -> tuple[Sequence[int], frozenset[int]]:
    """The conversation in the form that the run has learned, and the ids that end an answer.

    Texts without BOS are RustGPT's plain dialogues: each question on its own, nothing remembered.
    """
    tokenizer, end = run.tokenizer, end_of("assistant")
    if not run.plan.data.bos:
        if any(message.role == "system" for message in said) or said[-1].role != "user":
            sentence = "this model has learned plain dialogues: no system, and the user speaks last"
            raise refuse(field, sentence)
        return prompt_ids(run, f"User: {said[-1].content}", field), tokenizer.stop_ids
    if end not in tokenizer.special_ids:
        sentence = "this model was not tuned on conversations; let it continue a text"
        raise refuse("model", sentence, "unsupported_model")
    with _naming_the_character(field):
        prompt = render(tokenizer, said, reply=True).ids.tolist()
    return prompt, frozenset({tokenizer.special_id(end), tokenizer.bos_id})


def can_chat(run: Loaded | Opened) -> bool:
    """Whether a run has learned to answer: was tuned on conversations, or is another's model.

    Having the tokens of conversations is not enough: a run may be made to be tuned later.
    """
    if not run.plan.data.bos:
        return True
    learned = run.plan.data.format == "chat" or run.record.corpus["fingerprint"] == "unknown"
    return learned and end_of("assistant") in run.tokenizer.special_ids


def is_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a record's config says that conversations were learned; no file is read for it."""
    data = config.get("data")
    return isinstance(data, Mapping) and (data.get("format") == "chat" or data.get("bos") is False)


def prompt_ids(run: Loaded, prompt: str | Sequence[int], field: str = "prompt") -> Sequence[int]:
    """The ids of a text as the run begins one; ids stay as they are, if there are such."""
    if isinstance(prompt, str):
        with _naming_the_character(field):
            return prompt_tokens(run, prompt)
    if (found := max(prompt)) >= run.tokenizer.vocab_size:
        sentence = f"found token {found}; those below {run.tokenizer.vocab_size} are required"
        raise refuse(field, sentence)
    return prompt


@contextlib.contextmanager
def _naming_the_character(field: str) -> Iterator[None]:
    """A tokenizer's error quotes the text; this names the code point of the character alone."""
    try:
        yield
    except TokenizerError as error:
        found = re.search(r"\(U\+[0-9A-F]+\)", str(error))
        character = f"a character {found[0]}" if found else "a character"
        sentence = f"found {character} that the tokenizer of this model has no token for"
        raise refuse(field, sentence, "invalid_text") from error


def prompt_text(run: Loaded, prompt: str | Sequence[int]) -> str:
    """The text that a prompt stands for."""
    return prompt if isinstance(prompt, str) else run.tokenizer.decode(prompt)


def refuse(field: str, sentence: str, code: str = "invalid_value") -> Refusal:
    """The refusal of what a field asks for."""
    return Refusal(400, code, f"{field}: {sentence}", field=field)
