"""Generate text with a trained run; stdout is the text alone.

python -m nanogpt_jax.sample --workdir=DIR [--step=N|last|best] --prompt="..."
    [--max_tokens=200] [--temperature=0.8] [--top_k=40] [--top_p=0.95] [--seed=1]
    [--min_p=0.05] [--repetition_penalty=1.1] [--stop="..."]
"""

from __future__ import annotations

import sys
from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.generate import Generator
from nanogpt_jax.registry import non_negative
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.stops import write


def main(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    prompt: Annotated[str, "text to continue; empty = the start of a document"] = "",
    max_tokens: Annotated[int, "tokens to generate at most", non_negative] = 200,
    stop: Annotated[str, "the text ends before this; empty = at the end of a document"] = "",
    sampling: Sampling,
) -> None:
    """Streams the prompt and its continuation."""
    cli.quiet()
    run = experiment.load(workdir, step)
    tokens = experiment.prompt_tokens(run, prompt)
    stream = Generator(run.model, run.shape.max_seq_len).stream(
        run.params,
        tokens,
        sampling,
        max_tokens=max_tokens if tokens else 0,  # nothing follows nothing
        stop=run.tokenizer.stop_ids,
    )
    sys.stdout.write(prompt)
    drawn = (each.token for each in stream)
    for piece in write(drawn, run.tokenizer.decoder(), [stop]):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


if __name__ == "__main__":
    cli.run(main, __doc__)
