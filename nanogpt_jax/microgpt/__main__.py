"""Train a GPT of 4192 numbers on names, and let it invent some.

python -m nanogpt_jax.microgpt --engine=scalar|matrix|jax [--input=names.txt] [--num_steps=1000]

The engines compute the same: scalar on single numbers, in minutes; matrix on NumPy's matrices and
jax in one compiled program, in a second.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NoReturn, Protocol, get_args, get_type_hints

from nanogpt_jax.microgpt import names
from nanogpt_jax.microgpt.scalar import Corpus, Reader, Settings, draw_weights, sample

MODULES = {"scalar": "scalar", "matrix": "matrix", "jax": "jax_engine"}


class GPT(Protocol):
    """What every engine has: its losses, one a window, and a reader for what it has learned."""

    def train(self, windows: Sequence[list[int]]) -> Iterator[float]: ...

    def reader(self) -> Reader: ...


class Parser(argparse.ArgumentParser):
    """Ends the process with one line for a wrong command line, and leaves out the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, prints each loss, and prints the invented names."""
    engine, text, settings = parse(arguments)
    stream = Random(settings.seed)
    corpus = Corpus(text, stream)
    vocab_size = corpus.bos + 1
    numbers = draw_weights(stream, vocab_size, settings)
    print("num docs:", len(corpus.documents))
    print("vocab size:", vocab_size)
    print("num params:", sum(len(row) for rows in numbers.values() for row in rows), flush=True)

    module = importlib.import_module(f"nanogpt_jax.microgpt.{MODULES[engine]}")
    gpt: GPT = module.GPT(numbers, settings)
    windows = [corpus.window(step, settings) for step in range(settings.num_steps)]
    for step, loss in enumerate(gpt.train(windows), start=1):
        print(f"step {step:4d} / {len(windows):4d} | loss {loss:.4f}", flush=True)

    print("\n--- inference (new, hallucinated names) ---")
    for number in range(1, settings.samples + 1):
        tokens = sample(gpt.reader(), corpus.bos, stream, settings)
        print(f"sample {number:2d}: {corpus.decode(tokens)}", flush=True)


def parse(arguments: Sequence[str] | None) -> tuple[str, str, Settings]:
    """The engine, the text and the settings of a command line; ends the process if it is wrong."""
    parser = Parser(
        usage=argparse.SUPPRESS,  # the description shows it
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--engine", choices=MODULES, default="scalar", help="default: scalar")
    parser.add_argument(
        "--input", type=read, help="a file, one document a line; default: names.txt"
    )
    for name, annotated in get_type_hints(Settings, include_extras=True).items():
        kind, meaning = get_args(annotated)
        choices, default = get_args(kind) or None, getattr(Settings, name)
        parser.add_argument(
            f"--{name}",
            type=str if choices else kind,
            choices=choices,
            default=default,
            help=f"{meaning}; default: {default}",
        )
    flags = vars(parser.parse_args(arguments))
    engine, text = flags.pop("engine"), flags.pop("input")
    settings = Settings(**flags)
    if found := "; ".join(problems(settings)):
        parser.error(found)
    return engine, names.read() if text is None else text, settings


def read(path: str) -> str:
    """The text of a file that holds at least one document."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{path} is empty; give a file with a document a line")
    return text


def problems(settings: Settings) -> Iterator[str]:
    """Values that cannot be meant."""
    for name in ("num_steps", "n_embd", "n_layer", "block_size", "n_head"):
        if (value := getattr(settings, name)) < 1:
            yield f"--{name}={value} is not positive; give at least 1"
    if settings.samples < 0:
        yield f"--samples={settings.samples} is negative; give 0 for none"
    if not 0 < settings.learning_rate <= 1:
        yield f"--learning_rate={settings.learning_rate} is not above 0 and at most 1"
    if not 0 < settings.temperature < math.inf:
        yield f"--temperature={settings.temperature} is not a positive number"
    if settings.n_head > 0 and settings.n_embd % settings.n_head:
        yield f"--n_embd={settings.n_embd} is not a multiple of --n_head={settings.n_head}"


if __name__ == "__main__":
    gc.disable()  # looking for circles, where Values make none, takes scalar a third of its time
    try:
        main()
    except BrokenPipeError:  # the reader of stdout has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (names.NoNames, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
