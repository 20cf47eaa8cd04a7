"""Learn a tokenizer from a corpus, save it and say what it is.

python -m nanogpt_jax.tokenizer train --corpus=TEXT --vocab_size=2048 --output=FILE [--kind=bpe]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from nanogpt_jax import cli, tokenization
from nanogpt_jax.data import sources
from nanogpt_jax.data.corpus import Corpus, Opening
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import positive


def train(
    *,
    corpus: Annotated[str, "a UTF-8 text file, or a data source such as bundled:tales"],
    vocab_size: Annotated[int, "most tokens, special ones included", positive],
    output: Annotated[Path, "tokenizer file to write"],
    kind: Annotated[str, "kind of tokenizer: bpe or char"] = "bpe",
) -> None:
    """Learns from the whole corpus."""
    cli.quiet()
    if problem := tokenization.problem(kind, vocab_size):
        raise ConfigError(problem)
    texts = read(corpus)
    tokenizer = tokenization.train(kind, texts, vocab_size)
    tokenizer.save(output)
    n_bytes = sum(len(text.encode()) for text in texts)
    n_tokens = sum(map(len, tokenizer.encode_batch(texts)))
    print(f"{output}: {tokenizer.describe()}, {n_bytes / n_tokens:.3f} bytes per token")
    print(f"sha256 {tokenizer.sha256}")


def read(corpus: str) -> Sequence[str]:
    """The documents of a source, or of the text file at a path."""
    named = sources.kind_of(corpus) in sources.sources and ":" in corpus
    source = corpus if named else f"text:{corpus}"
    opened = sources.parse_source(source)(Opening())
    assert isinstance(opened, Corpus)
    return opened.read(0.0).train.texts


COMMANDS = {"train": train}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
