"""Generate text with a trained run; stdout is the text alone.

python -m nanogpt_jax.sample --workdir=DIR [--step=N|last|best] --prompt="..."
    [--max_tokens=200] [--temperature=0.8] [--top_k=40] [--top_p=0.95] [--seed=1]
"""

from __future__ import annotations

import sys
from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.generate import Generator
from nanogpt_jax.registry import non_negative
from nanogpt_jax.sampling import Sampling


def main(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    prompt: Annotated[str, "text to continue; empty = the start of a document"] = "",
    max_tokens: Annotated[int, "tokens to generate at most", non_negative] = 200,
    sampling: Sampling,
) -> None:
    """Streams the prompt and its continuation."""
    cli.quiet()
    run = experiment.load(workdir, step)
    tokens = experiment.prompt_tokens(run, prompt)
    decoder = run.tokenizer.decoder()
    stream = Generator(run.model, run.shape.max_seq_len).stream(
        run.params,
        tokens,
        sampling,
        max_tokens=max_tokens if tokens else 0,  # nothing follows nothing
        stop=run.tokenizer.stop_ids,
    )
    sys.stdout.write(prompt)
    for drawn in stream:
        sys.stdout.write(decoder.push(drawn.token))
        sys.stdout.flush()
    sys.stdout.write(decoder.flush() + "\n")


if __name__ == "__main__":
    cli.run(main, __doc__)
