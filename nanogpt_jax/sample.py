"""Generate text with a trained run; stdout is the text alone.

python -m nanogpt_jax.sample --workdir=DIR [--step=N|last|best] --prompt="..."
    [--max_tokens=200] [--temperature=0.8] [--top_k=40] [--top_p=0.95] [--seed=1]
"""

from __future__ import annotations

import sys

from absl import flags

from nanogpt_jax import cli, experiment
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.generate import Generator


def define_flags() -> None:
    """The flags of this command."""
    cli.define_run_flags()
    cli.define_sampling_flags()
    flags.DEFINE_string("prompt", "", "text to continue; empty = the start of a document")
    flags.DEFINE_integer("max_tokens", 200, "tokens to generate at most", lower_bound=0)


def main(words: list[str]) -> None:
    """Streams the prompt and its continuation."""
    if words:
        raise ConfigError(f"{words[0]!r} is not understood; give flags only")
    cli.quiet()
    sampling = cli.sampling()
    run = experiment.load(cli.workdir(), flags.FLAGS.step)
    prompt = experiment.prompt_tokens(run, flags.FLAGS.prompt)
    sys.stdout.write(flags.FLAGS.prompt)
    decoder = run.tokenizer.decoder()
    stream = Generator(run.model, run.shape.max_seq_len).stream(
        run.params,
        prompt,
        sampling,
        max_tokens=flags.FLAGS.max_tokens,
        stop={run.tokenizer.bos_id},
    )
    for drawn in stream:
        sys.stdout.write(decoder.push(drawn.token))
        sys.stdout.flush()
    sys.stdout.write(decoder.flush() + "\n")


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
