"""Learn a tokenizer from a corpus, save it and say what it is; or give its ranks to tiktoken.

python -m nanogpt_jax.tokenizer train --corpus=TEXT --vocab_size=2048 --output=FILE [--kind=bpe]
python -m nanogpt_jax.tokenizer export --tokenizer=FILE --output=FILE
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from nanogpt_jax import cli, tokenization
from nanogpt_jax.data import sources
from nanogpt_jax.data.corpus import Opening
from nanogpt_jax.data.parts import to_learn_from
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import positive
from nanogpt_jax.tokenization import Options, Tokenizer, history
from nanogpt_jax.tokenization.export import ranks_of
from nanogpt_jax.tokenization.writing import write_whole

# Texts encoded at once: enough for the tokenizer's threads, little memory.
ENCODED_AT_ONCE = 512


def train(
    *,
    corpus: Annotated[str, "a UTF-8 text file, or a data source such as bundled:tales"],
    vocab_size: Annotated[int, "most tokens, special ones included", positive],
    output: Annotated[Path, "tokenizer file to write"],
    kind: Annotated[str, "kind of tokenizer: bpe, char or word"] = "bpe",
    options: Options,
    events: Annotated[bool, "print JSON lines, one for each event of learning a bpe"] = False,
    merges: Annotated[bool, "print those events, and one for each merge"] = False,
) -> None:
    """Learns from the whole corpus."""
    cli.quiet()
    events = events or merges
    problems = [tokenization.problem(kind, vocab_size, options)]
    if events and kind != "bpe":
        problems.append(f"--events tells how a bpe is learned; --kind={kind} has no such steps")
    if found := [problem for problem in problems if problem]:
        raise ConfigError(found)
    texts = read(corpus)
    if events:
        tokenizer = learn_aloud(texts, vocab_size, options, merges)
    else:
        tokenizer = tokenization.train(kind, texts, vocab_size, options)
    tokenizer.save(output)
    rate = bytes_per_token(tokenizer, texts)
    if events:
        tell(
            {
                "event": "tokenizer_saved",
                "vocab_size": tokenizer.vocab_size,
                "output": str(output),
                "sha256": tokenizer.sha256,
                "bytes_per_token": rate,
            }
        )
    else:
        print(f"{output}: {tokenizer.describe()}, {rate:.3f} bytes per token")
        print(f"sha256 {tokenizer.sha256}")


def learn_aloud(texts: Iterable[str], vocab_size: int, options: Options, merges: bool) -> Tokenizer:
    """A bpe tokenizer, its events printed."""
    pieces = history.count_pieces(texts, options.pattern)
    tell(history.tell_start(pieces, vocab_size, options))
    tokenizer = tokenization.train("bpe", texts, vocab_size, options)
    for event in history.tell_merges(tokenizer, pieces, options) if merges else ():
        tell(event)
    tell(history.tell_end(tokenizer, pieces, vocab_size))
    return tokenizer


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """How many bytes of `texts` become one token, on average."""
    n_bytes = n_tokens = 0
    remaining = iter(texts)
    while batch := list(itertools.islice(remaining, ENCODED_AT_ONCE)):
        n_bytes += sum(len(text.encode()) for text in batch)
        n_tokens += sum(map(len, tokenizer.encode_batch(batch)))
    return n_bytes / max(n_tokens, 1)


def tell(event: dict[str, Any]) -> None:
    """Print one event as a line of JSON."""
    print(json.dumps(event), flush=True)


def export(
    *,
    tokenizer: Annotated[Path, "tokenizer file, or a folder with a tokenizer.json"],
    output: Annotated[Path, "file of ranks to write, in tiktoken's format"],
) -> None:
    """Writes a bpe's ranks; prints, as JSON, what tiktoken.Encoding needs besides."""
    cli.quiet()
    ranks = ranks_of(tokenization.load(tokenizer))
    write_whole(output, ranks.to_file())
    print(json.dumps({"pat_str": ranks.pat_str, "special_tokens": ranks.special_tokens}))


def read(corpus: str) -> Iterable[str]:
    """The documents of a source, or of the text file at a path; of a stream, the first."""
    named = sources.kind_of(corpus) in sources.sources and not Path(corpus).exists()
    source = corpus if named else f"text:{corpus}"
    opened = sources.parse_source(source)(Opening())
    return to_learn_from(opened).read(0.0).train.texts


COMMANDS = {"train": train, "export": export}

if __name__ == "__main__":
    cli.run(COMMANDS, __doc__)
