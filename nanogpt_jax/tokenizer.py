"""Learn a tokenizer from a UTF-8 text file, save it and say what it is.

python -m nanogpt_jax.tokenizer train --corpus=TEXT --vocab_size=2048 --output=FILE [--kind=bpe]
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

from nanogpt_jax import tokenization
from nanogpt_jax.errors import ConfigError, ExitCode, NanogptError, exit_code_of


def parse(argv: list[str]) -> flags.FlagValues:
    """The flags; a command line that is wrong ends the process with one line."""
    flags.DEFINE_string("corpus", None, "UTF-8 text file to learn from", required=True)
    flags.DEFINE_integer("vocab_size", None, "most tokens, special ones included", required=True)
    flags.DEFINE_string("output", None, "tokenizer file to write", required=True)
    flags.DEFINE_string("kind", "bpe", "kind of tokenizer: bpe or char")
    try:
        if (found := flags.FLAGS(argv)[1:]) != ["train"]:
            raise flags.Error(f"{' '.join(found)!r} found; `train` and flags are required")
    except flags.Error as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    return flags.FLAGS


def read_text_file(corpus: str) -> Sequence[str]:
    """The documents of a corpus: here, a file as one document."""
    try:
        text = Path(corpus).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--corpus={corpus} must be a UTF-8 text file: {error}") from error
    if not text:
        raise ConfigError(f"--corpus={corpus} is empty; give a file with text to learn from")
    return [text]


def main(given: flags.FlagValues, read: Callable[[str], Sequence[str]] = read_text_file) -> int:
    """Train on the documents that `read` finds in the corpus; returns the exit code."""
    try:
        texts = read(given.corpus)
        tokenizer = tokenization.train(given.kind, texts, given.vocab_size)
        tokenizer.save(Path(given.output))
    except (NanogptError, OSError) as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    n_bytes = sum(len(text.encode()) for text in texts)
    n_tokens = sum(map(len, tokenizer.encode_batch(texts)))
    print(f"{given.output}: {tokenizer.describe()}, {n_bytes / n_tokens:.3f} bytes per token")
    print(f"sha256 {tokenizer.sha256}")
    return ExitCode.DONE


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
