"""Generate text with a trained run; stdout is the text alone.

python -m nanogpt_jax.sample --workdir=DIR [--step=N|last|best] --prompt="..."
    [--max_tokens=200] [--temperature=0.8] [--top_k=40] [--top_p=0.95] [--seed=1]
    [--min_p=0.05] [--repetition_penalty=1.1] [--stop="..."] [--draft=lookup|DIR]
python -m nanogpt_jax.sample --workdir=DIR --prompt="..." --beams=8 [--length_penalty=0.6]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.beam import BeamSearch
from nanogpt_jax.errors import ConfigError
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
    draft: cli.Draft = "",
    beams: Annotated[int, "the likeliest whole text of so many kept; 0 = draw", non_negative] = 0,
    length_penalty: Annotated[float, "with beams: above 0 favours long texts", non_negative] = 0.0,
    sampling: Sampling,
) -> None:
    """Streams the prompt and its continuation."""
    cli.quiet()
    if beams and (draft or sampling != Sampling()):
        raise ConfigError(
            "--beams looks for the likeliest text and draws nothing; leave out --draft and the "
            "settings of drawing"
        )
    run = experiment.load(workdir, step)
    tokens = experiment.prompt_tokens(run, prompt)
    if not tokens or not max_tokens:
        drawn: Iterator[int] = iter(())  # nothing follows nothing
    elif beams:
        drawn = search(run, tokens, beams, max_tokens, length_penalty)
    else:
        stream = Generator(run.model, run.shape.max_seq_len).stream(
            run.params,
            tokens,
            sampling,
            max_tokens=max_tokens,
            stop=run.tokenizer.stop_ids,
            proposer=experiment.open_drafts(draft, run),
        )
        drawn = (each.token for each in stream)
    sys.stdout.write(prompt)
    for piece in write(drawn, run.tokenizer.decoder(), [stop]):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def search(
    run: experiment.Loaded, tokens: list[int], beams: int, max_tokens: int, length_penalty: float
) -> Iterator[int]:
    """The best continuation that `beams` find, as far as the context has room."""
    context = run.shape.max_seq_len
    room = context + 1 - len(tokens)
    if room < 1:
        raise ConfigError(
            f"--prompt has {len(tokens)} tokens, more than the context of {context}, and beams "
            "cannot slide it; shorten it, or leave out --beams"
        )
    found = BeamSearch(run.model, context).search(
        run.params,
        tokens,
        beams=beams,
        max_tokens=min(max_tokens, room),
        stop=run.tokenizer.stop_ids,
        length_penalty=length_penalty,
    )
    return iter(found[0].tokens)


if __name__ == "__main__":
    cli.run(main, __doc__)
