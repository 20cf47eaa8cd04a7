"""Decoding beside transformers: greedy tokens with a cache, one row and many.

Both have GPT-2's block at the same sizes with random weights, for no token's cost depends on them.
What runs of ours is `Generator.complete`, as everybody calls it. How fast parameters could be read
at most is measured in the same rounds, by reading and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from nanogpt_jax import runtime
from nanogpt_jax.bench.contest import Contestant
from nanogpt_jax.bench.ours import plan_of
from nanogpt_jax.bench.suites import Contest, Limit, Measure
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.experiment.building import build_model
from nanogpt_jax.generate import Generator
from nanogpt_jax.sampling import Sampling

HERE, PEER = "nanogpt_jax.bench.generation", "nanogpt_jax.bench.peers.transformers_decode"
MINIGPT = {"n_layer": 4, "n_head": 4, "d_model": 128, "length": 128, "vocab": 1600}
GPT2_SMALL = {"n_layer": 12, "n_head": 12, "d_model": 768, "length": 1024, "vocab": 50257}
PROMPT_TOKENS = 16
NO_STOP = -1
READ_BYTES = 400 * 10**6  # far beyond any cache
THREADS = 2


def contests(transformers: bool) -> list[Contest]:
    """Tokens a second of two sizes, bytes a second of the larger, memory of the widest."""
    small = _contest("minigpt", MINIGPT, 1, 100, 3.0, transformers)
    wide = _contest("minigpt", MINIGPT, 32, 100, 3.0, transformers)
    large = _contest("GPT-2 124M", GPT2_SMALL, 1, 24, 1.0, transformers)
    # Less than the parameters take is held beside them.
    held = Measure("temporary_share", limit=Limit("at most", 1.0))
    reading = Contest(
        "decode GPT-2 124M B1, parameters read",
        "GB",
        [large.contestants[0], Contestant("reading alone", f"{HERE}:read", {})],
        rival="reading alone",
        target=0.6,
    )
    return [small, wide._replace(measures=[held]), large, reading._replace(amount=_gigabytes(24))]


def _contest(
    name: str, sizes: Mapping[str, int], batch: int, tokens: int, target: float, transformers: bool
) -> Contest:
    work = {**sizes, "batch": batch, "tokens": tokens}
    sides = [Contestant("ours", f"{HERE}:complete", work)]
    if transformers:
        sides.append(Contestant("transformers", f"{PEER}:complete", work))
    row = f"decode {name} B{batch}"
    return Contest(row, "token", sides, batch * tokens, rival="transformers", target=target)


def complete(
    *, n_layer: int, n_head: int, d_model: int, length: int, vocab: int, batch: int, tokens: int
) -> Callable[[], Mapping[str, Any]]:
    """A round of `tokens` greedy tokens after each of `batch` prompts."""
    runtime.keep_freed_memory()
    model = _model(n_layer, n_head, d_model, length, vocab)
    params = Generator.prepare(jax.jit(model.init)(jax.random.key(0)))
    generator = Generator(model, length)
    rng = np.random.default_rng(0)
    prompts = rng.integers(vocab, size=(batch, PROMPT_TOKENS)).tolist()
    greedy = [Sampling(temperature=0.0)] * batch
    held_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    share = generator.temporary_bytes(params, batch) / held_bytes

    def work() -> Mapping[str, Any]:
        drawn = generator.complete(params, prompts, greedy, max_tokens=tokens, stop=NO_STOP)
        return {"tokens": sum(map(len, drawn)), "temporary_share": share}

    return work


def read() -> Callable[[], Mapping[str, Any]]:
    """A round of reading memory once: the largest of many numbers, a part to each thread.

    Of NumPy's reductions the maximum reads fastest.
    """
    parts = np.array_split(np.ones(READ_BYTES // 4, np.float32), THREADS)
    threads = ThreadPoolExecutor(THREADS)

    def work() -> Mapping[str, Any]:
        largest = max(threads.map(np.max, parts))
        return {"largest": float(largest), "amount": READ_BYTES / 1e9}

    return work


def _gigabytes(tokens: int) -> float:
    """What drawing so many tokens reads of the parameters, at least."""
    sizes = GPT2_SMALL
    model = _model(*(sizes[name] for name in ("n_layer", "n_head", "d_model", "length", "vocab")))
    params = jax.eval_shape(model.init, jax.random.key(0))
    # A table of positions is read in one row.
    read_count = parameter_count(params) - params["w_position"].size
    return 4 * read_count * tokens / 1e9


def _model(n_layer: int, n_head: int, d_model: int, length: int, vocab: int) -> Any:
    """GPT-2 as transformers has it: with biases, and the hyperbolic tangent in GELU."""
    changes = {"train.seq_len": length, "model.bias": True, "model.activation": "gelu_tanh"}
    return build_model(plan_of(n_layer, n_head, d_model, length, changes), vocab)
