"""Tokenizers as files of transformers, and back; the chat template as Jinja.

Ids are kept, names are not all: what starts a document is `<|bos|>` here, whatever the file calls
it. Text is encoded without special tokens on both sides; who wants one puts it, as the template
does. Only byte-level BPE and our own characters are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import NAME, Tokenizer, tokenizers
from nanogpt_jax.tokenization.special import BOS, ROLES, end_of, start_of
from nanogpt_jax.tokenization.writing import write_whole

# The library's dialect of regular expressions: any character, line breaks included.
ANY_CHARACTER = "(?m:.)"


def chat_template() -> str:
    """The template of tokenization/chat.py in Jinja: the same ids for the same messages."""
    roles = json.dumps(list(ROLES))
    return (
        f"{{{{- '{BOS}' -}}}}"
        "{%- for message in messages -%}"
        f"{{%- if message['role'] not in {roles} -%}}"
        "{{- raise_exception('message ' ~ loop.index0 ~ ': role ' ~ message['role'] ~ "
        "' is not known') -}}"
        "{%- endif -%}"
        "{{- '<|' ~ message['role'] ~ '_start|>' ~ message['content'] ~ '<|' ~ message['role'] ~ "
        "'_end|>' -}}"
        "{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{- '{start_of('assistant')}' -}}}}{{%- endif -%}}"
    )


def talks(tokenizer: Tokenizer) -> bool:
    """Whether it has the special tokens of conversations."""
    wanted = {name(role) for role in ROLES for name in (start_of, end_of)}
    return wanted <= tokenizer.special_ids.keys()


def ends_of(tokenizer: Tokenizer) -> list[int]:
    """The ids that end a text: the start of the next document, and the end of an answer."""
    ends = (BOS, end_of("assistant"))
    return [tokenizer.special_ids[name] for name in ends if name in tokenizer.special_ids]


def write(folder: Path, tokenizer: Tokenizer, max_seq_len: int, opens: bool) -> None:
    """Writes tokenizer.json and tokenizer_config.json; TokenizerError for a kind of words.

    With `opens`, `<|bos|>` is put before a text, unless it is asked for without special tokens.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": end_of("assistant") if talks(tokenizer) else BOS,
        "pad_token": BOS,
        "model_max_length": max_seq_len,
        "clean_up_tokenization_spaces": False,
    }
    if talks(tokenizer):
        config["chat_template"] = chat_template()
    content = json.loads(_to_library(tokenizer))
    if opens:
        content["post_processor"] = _opening(tokenizer.bos_id)
    write_whole(folder / NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_whole(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")


def _opening(bos_id: int) -> dict[str, Any]:
    """The library's template of a text that begins with `<|bos|>`."""
    start = {"SpecialToken": {"id": BOS, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB")]
    return {
        "type": "TemplateProcessing",
        "single": [start, texts[0]],
        "pair": [start, *texts],
        "special_tokens": {BOS: {"id": BOS, "ids": [bos_id], "tokens": [BOS]}},
    }


def _to_library(tokenizer: Tokenizer) -> str:
    """The file of the tokenizers library that gives the same ids."""
    if tokenizer.kind == "bpe":
        return tokenizer.to_json()
    if tokenizer.kind != "char":
        raise TokenizerError(
            f"a {tokenizer.kind} tokenizer cannot be exported: transformers has none that reads "
            "text as it does; export a run with a bpe or char tokenizer"
        )
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    characters = {token.decode(): id_ for id_, token in enumerate(tokenizer.token_bytes) if token}
    library = Library(models.WordLevel(characters))
    library.pre_tokenizer = pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated")
    library.decoder = decoders.Fuse()
    library.add_special_tokens([AddedToken(name) for name in tokenizer.special_ids])
    return library.to_str(pretty=True) + "\n"


def read(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a folder, whose config.json has `settings`; TokenizerError if it is unfit.

    The token that starts a document is the one that `bos_token_id` names, else `eos_token_id`.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        added = [token for token in content["added_tokens"] if token["special"]]
        kind, vocabulary = content["model"]["type"], content["model"]["vocab"]
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}); it is required") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{path} is no file of the tokenizers library") from error
    if all(token["content"] != BOS for token in added):
        start = _start(added, settings, path)
        if start["content"] in vocabulary:
            vocabulary[BOS] = vocabulary.pop(start["content"])
        start["content"] = BOS
    content["post_processor"] = None  # which puts special tokens around a text
    try:
        if kind == "WordLevel":
            return _to_characters(vocabulary, [token["content"] for token in added])
        return tokenizers["bpe"].parse(content, ())
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def opens(folder: Path) -> bool:
    """Whether the tokenizer of a folder puts a special token before a text."""
    content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    processor = content.get("post_processor") or {}
    return "SpecialToken" in next(iter(processor.get("single", ())), ())


def _start(added: list[dict[str, Any]], settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The special token that starts a document."""
    for key in ("bos_token_id", "eos_token_id"):
        ids = settings.get(key)
        for token in added:
            if token["id"] in (ids if isinstance(ids, list) else [ids]):
                return token
    raise TokenizerError(
        f"{path} has no special token with the bos_token_id or eos_token_id of config.json; one "
        "that starts a document is required"
    )


def _to_characters(vocabulary: dict[str, int], names: list[str]) -> Tokenizer:
    characters = "".join(sorted(vocabulary.keys() - set(names), key=vocabulary.__getitem__))
    tokenizer = tokenizers["char"].parse({"characters": characters, "special_tokens": names})
    ids = {token.decode(): id_ for id_, token in enumerate(tokenizer.token_bytes) if token}
    if ids | dict(tokenizer.special_ids) != vocabulary | dict(tokenizer.special_ids):
        raise TokenizerError("its words are not single characters in order; a BPE is required")
    return tokenizer
