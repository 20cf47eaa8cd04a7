"""A byte-level BPE for tiktoken: its ranks as a file, and what the file does not say.

tiktoken knows no merges: it joins the two neighbours whose bytes together have the lowest rank.
That gives the same ids where ranks follow the merges and every token is reached from its bytes,
which is checked here and not hoped for.
"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from tokenizers import Tokenizer as Library

from nanogpt_jax.errors import TokenizerError
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.patterns import PATTERNS


class Ranks(NamedTuple):
    """The arguments of `tiktoken.Encoding` besides its name."""

    mergeable_ranks: dict[bytes, int]
    pat_str: str
    special_tokens: dict[str, int]

    def to_file(self) -> str:
        """The text of tiktoken's file: a token in base64 and its rank on each line."""
        lines = (
            f"{base64.b64encode(token).decode()} {rank}\n"
            for token, rank in self.mergeable_ranks.items()
        )
        return "".join(lines)


def ranks_of(tokenizer: Tokenizer) -> Ranks:
    """The ranks, which are the ids, in their order; TokenizerError where ids would differ.

    A pattern of one's own must cover every character: tiktoken drops what it leaves out.
    """
    if tokenizer.kind != "bpe":
        raise TokenizerError(f"a {tokenizer.kind} tokenizer has no ranks; a bpe tokenizer has")
    content = json.loads(tokenizer.to_json())
    if content["normalizer"]:
        raise TokenizerError("it normalizes text, which tiktoken does not")
    if plain := [token["content"] for token in content["added_tokens"] if not token["special"]]:
        raise TokenizerError(f"{plain[0]!r} was added without being special; tiktoken cannot know")
    _require_ranks(tokenizer, content)
    return Ranks(
        {token: id_ for id_, token in enumerate(tokenizer.token_bytes) if token},
        _pattern_of(content["pre_tokenizer"]),
        dict(tokenizer.special_ids),
    )


def _require_ranks(tokenizer: Tokenizer, content: dict[str, Any]) -> None:
    """Refuse a tokenizer in which the order of ids is not that of merging.

    If every token alone is reached from its bytes, by merges of lower ids, then no two neighbours
    that make up a token can be left over when its turn comes, however else it could be split.
    """
    ids = content["model"]["vocab"]
    # With ignore_merges, a token would be looked up whole and no merge asked.
    by_merges = content | {"model": content["model"] | {"ignore_merges": False}}
    model = Library.from_str(json.dumps(by_merges)).model
    reached = all(
        [token.id for token in model.tokenize(text)] == [id_]
        for text, id_ in ids.items()
        if tokenizer.token_bytes[id_]
    )
    learned = list(dict.fromkeys(ids[left + right] for left, right in content["model"]["merges"]))
    if learned != sorted(learned) or not reached:
        raise TokenizerError(
            "its ids do not follow the order of its merges, which ranks must; those of a "
            "tokenizer that this package trained do"
        )


def _pattern_of(pre_tokenizer: dict[str, Any]) -> str:
    match pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        case [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ]:
            return regex
        case [{"type": "ByteLevel", "use_regex": True}]:
            return PATTERNS["gpt2"]
    raise TokenizerError("it cuts text by other rules than one regular expression")
