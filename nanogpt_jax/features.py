"""What nanochat-rs promises, milestone by milestone, each with what was measured for it here.

python -m nanogpt_jax.features [--seed=0]

A small model with random parameters, seconds on a CPU; a line a promise, PASS or FAIL, and exit
code 1 when one fails. The promises are the original's M2 to M10; where its code does otherwise (it
sees the future, its policies are all greedy, its cache forgets positions), the promise is measured.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import checkpoint, cli, nanochat
from nanogpt_jax import functional as F
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import KVCache, LanguageModel, ModelOutput, Params
from nanogpt_jax.models import gpt
from nanogpt_jax.registry import non_negative
from nanogpt_jax.sampling import Sampling, draw, rows
from nanogpt_jax.state import TrainState

SIZE = nanochat.Size(128, 256, 4, 4, 2, 128, 128, 0.0)  # that of the original's demonstration
TOKENS, STREAMED = 16, 8
CLOSE = 1e-5  # what float32 and another order of sums may differ by
DRAWS = 4096
POLICIES = {
    ("M2", "greedy"): Sampling(temperature=0.0),
    ("M2", "temperature"): Sampling(temperature=0.8),
    ("M2", "top-k"): Sampling(top_k=10),
    ("M2", "top-p"): Sampling(top_p=0.9),
    ("M8", "temperature, top-k"): Sampling(temperature=0.8, top_k=10),
    ("M8", "temperature, top-p"): Sampling(temperature=0.8, top_p=0.9),
    ("M8", "temperature, top-k, top-p"): Sampling(temperature=0.8, top_k=40, top_p=0.9),
}


class Evidence(NamedTuple):
    """A promise, what was measured for it, and whether that keeps it."""

    milestone: str
    promise: str
    measured: str
    passed: bool


class Subject:
    """A model with parameters, and one row of tokens that it reads."""

    def __init__(self, size: nanochat.Size, config: gpt.Config, params: Params, tokens_BT: Any):
        self.size = size
        self.config = config
        self.model = build(size, config)
        self.params = params
        self.tokens_BT = tokens_BT
        self._apply = jax.jit(self.model.apply, static_argnames="capture")

    def empty_cache(self) -> KVCache:
        """Room for a whole context."""
        assert self.model.empty_cache is not None  # gpt keeps a cache
        return self.model.empty_cache(1, self.size.sequence_len)

    def read(self, tokens_BT: np.ndarray, params: Any = None, **keywords: Any) -> ModelOutput:
        """A forward pass, with other parameters where given."""
        return self._apply(self.params if params is None else params, tokens_BT, **keywords)

    def logits(self, tokens_BT: np.ndarray, params: Any = None) -> np.ndarray:
        """The logits of a forward pass."""
        params = self.params if params is None else params
        return np.asarray(self.model.unembed(params, self.read(tokens_BT, params).hidden_BTD))

    def changed(self, **switches: Any) -> Subject:
        """The same parameters under other switches."""
        config = dataclasses.replace(self.config, **switches)
        return Subject(self.size, config, self.params, self.tokens_BT)


def measure(seed: int = 0, size: nanochat.Size = SIZE) -> Iterator[Evidence]:
    """The evidence for every promise, one after the other."""
    config = nanochat.model_of(size)
    params = jax.jit(build(size, config).init)(jax.random.key(seed))
    tokens_BT = np.random.default_rng(seed).integers(size.vocab_size, size=(1, TOKENS))
    subject = Subject(size, config, params, tokens_BT.astype(np.int32))
    for evidence in (policies, blocks, cache, rope, norms, kv_heads, softcap, checkpoints):
        yield from evidence(subject)


def build(size: nanochat.Size, config: gpt.Config) -> LanguageModel:
    """The model; layers in a compiled loop, for that compiles sooner."""
    return gpt.build(config, size.vocab_size, unroll=1)


def policies(subject: Subject) -> Iterator[Evidence]:
    """Every policy draws, and from the distribution that it names."""
    logits_V = subject.logits(subject.tokens_BT)[0, -1]
    logits_BV = jnp.broadcast_to(jnp.asarray(logits_V), (DRAWS, len(logits_V)))
    for (milestone, name), sampling in POLICIES.items():
        seeded = [dataclasses.replace(sampling, seed=seed) for seed in range(DRAWS)]
        tokens, _ = jax.jit(draw)(logits_BV, rows(seeded), jnp.zeros(DRAWS, jnp.int32))
        share_V = np.bincount(np.asarray(tokens), minlength=len(logits_V)) / DRAWS
        p_V = probabilities(logits_V, sampling)
        distance = np.abs(share_V - p_V).sum() / 2
        chance = np.sqrt(p_V * (1 - p_V) / DRAWS).sum() / 2  # at most, for so many true draws
        kept, drawn = np.count_nonzero(p_V), np.count_nonzero(share_V)
        measured = f"{drawn} of {kept} tokens drawn, {distance:.4f} from the truth"
        passed = not share_V[p_V == 0].any() and distance <= 1.5 * chance
        yield Evidence(milestone, name, f"{measured} (chance {chance:.4f})", passed)


def probabilities(logits_V: np.ndarray, sampling: Sampling) -> np.ndarray:
    """What a policy draws from: temperature, then top-k, then top-p of what is left."""
    if sampling.temperature == 0:
        return (np.arange(len(logits_V)) == logits_V.argmax()).astype(float)
    order = np.argsort(-logits_V)
    p_V = np.exp((logits_V[order] - logits_V.max()).astype(np.float64) / sampling.temperature)
    p_V[sampling.top_k or len(p_V) :] = 0.0
    p_V /= p_V.sum()
    p_V[np.cumsum(p_V) - p_V >= sampling.top_p] = 0.0
    found = np.zeros_like(p_V)
    found[order] = p_V / p_V.sum()
    return found


def blocks(subject: Subject) -> Iterator[Evidence]:
    """The parts are there, and none sees the future."""
    size = subject.size
    D, V, L = size.n_embd, size.vocab_size, size.n_layer
    grouped = size.n_kv_head / size.n_head
    expected = int(2 * V * D + L * ((2 + 2 * grouped) * D**2 + 8 * D**2))
    counted = parameter_count(subject.params)
    measured = f"{counted:,} counted, {expected:,} by formula"
    yield Evidence("M3", f"{L} blocks and two tables", measured, counted == expected)
    before = subject.logits(subject.tokens_BT)
    changed = subject.tokens_BT.copy()
    changed[:, TOKENS // 2 :] = (changed[:, TOKENS // 2 :] + 1) % V
    difference = np.abs(before - subject.logits(changed)).max(axis=(0, 2))
    past, future = difference[: TOKENS // 2].max(), difference[TOKENS // 2 :].min()
    measured = f"other later tokens change earlier logits by {past:.0e}, their own by {future:.2f}"
    yield Evidence("M3", "causal, and finite", measured, past == 0 and 0 < future < np.inf)


def cache(subject: Subject) -> Iterator[Evidence]:
    """What is read piece by piece is what is read at once."""
    full = subject.logits(subject.tokens_BT)
    kept, found = subject.empty_cache(), []
    for token_BT in np.split(subject.tokens_BT, TOKENS, axis=1):
        output = subject.read(token_BT, cache=kept)
        found.append(subject.model.unembed(subject.params, output.hidden_BTD))
        assert output.cache is not None  # a cache goes in, so one comes out
        kept = output.cache
    far, length = np.abs(np.concatenate(found, axis=1) - full).max(), int(kept.length_B[0])
    measured = f"{far:.1e} from the full forward pass, {length} positions kept"
    yield Evidence("M4", "cache, token by token", measured, far < CLOSE and length == TOKENS)
    generator = Generator(subject.model, subject.size.sequence_len)
    prompt, greedy = subject.tokens_BT[0].tolist(), Sampling(temperature=0.0)
    drawn = list(generator.stream(subject.params, prompt, greedy, max_tokens=STREAMED))
    tokens = [each.token for each in drawn]
    whole = subject.logits(np.array([prompt + tokens], np.int32))[0, TOKENS - 1 : -1]
    equal = int((whole.argmax(-1) == tokens).sum())
    logprobs = np.asarray(jax.nn.log_softmax(whole)).max(-1)
    far = np.abs(logprobs - [each.logprob for each in drawn]).max()
    measured = (
        f"{equal} of {STREAMED} greedy tokens are those of full forward passes, {far:.1e} off"
    )
    yield Evidence("M4", "prompt and stream", measured, equal == STREAMED and far < CLOSE)


def rope(subject: Subject) -> Iterator[Evidence]:
    """Queries and keys turn with their place, so that only distance matters."""
    half, base = subject.config.d_head // 2, subject.config.rope_base
    x_TC = np.random.default_rng(0).normal(size=(TOKENS, 2 * half)).astype(np.float32)
    places_T = np.arange(TOKENS)

    def turn(places_T: np.ndarray) -> np.ndarray:
        x_BNTC, places_BT = jnp.asarray(x_TC)[None, None], jnp.asarray(places_T)[None]
        return np.asarray(F.rotate(x_BNTC, places_BT, base))[0, 0]

    turned, later = turn(places_T), turn(places_T + 100)
    angles = places_T[:, None] * base ** (-np.arange(half) / half)
    truth = (x_TC[:, :half] + 1j * x_TC[:, half:]) * np.exp(-1j * angles)
    far = np.abs(turned - np.concatenate([truth.real, truth.imag], axis=-1)).max()
    measured = f"{far:.1e} from complex multiplication by exp(-i p {base:.0f}^(-2c/C))"
    yield Evidence("M5", "RoPE turns pairs of channels", measured, bool(far < CLOSE))
    moved = np.abs(turned @ turned.T - later @ later.T).max() / np.abs(turned @ turned.T).max()
    measured = f"100 places on, scores change by {moved:.1e} of the largest"
    yield Evidence("M5", "scores know distance alone", measured, bool(moved < CLOSE))


def norms(subject: Subject) -> Iterator[Evidence]:
    """Norms without parameters, queries and keys without size, values within bounds."""
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(subject.params)]
    found = sum("norm" in name for name in names)
    yield Evidence("M6", "RMSNorm without parameters", f"{found} parameters of norms", found == 0)

    def observe(subject: Subject, factor: float, *names: str) -> dict[str, Any]:
        params = scale_attention(subject.params, factor, *names)
        return subject.read(subject.tokens_BT, params, capture=("attention", "head_out")).captured

    moved, control = (
        float(jnp.abs(observe(each, 0.5, "w_q", "w_k")["attention"] - before["attention"]).max())
        for each in (subject, subject.changed(qk_norm="off"))
        for before in [observe(each, 1.0)]
    )
    measured = f"half the queries and keys move attention by {moved:.1e}, without it {control:.1e}"
    yield Evidence("M6", "QK-norm", measured, moved < 1e-4 < control)
    largest = float(jnp.abs(observe(subject, 1000.0, "w_v")["head_out"]).max())
    measured = f"values times 1000: the largest head output is {largest:.4f}"
    passed = largest <= subject.config.qkv_clamp + CLOSE
    yield Evidence("M6", "queries, keys, values within 5", measured, passed)


def scale_attention(params: Params, factor: float, *names: str) -> Params:
    """The parameters with some of the attention's multiplied."""
    layers = params["layers"]
    scaled = {name: factor * layers["attention"][name] for name in names}
    return {**params, "layers": {**layers, "attention": {**layers["attention"], **scaled}}}


def kv_heads(subject: Subject) -> Iterator[Evidence]:
    """Few kv heads: a smaller cache, and the function of as many that are equal in groups."""
    few, heads = subject.size.n_kv_head, subject.size.n_head
    groups = heads // few
    many = subject.changed(n_kv_head=heads)
    few_bytes, many_bytes = (
        sum(leaf.nbytes for leaf in jax.tree.leaves(each.empty_cache()[:2]))
        for each in (subject, many)
    )
    measured = f"{few_bytes:,} bytes of cache with {few} kv heads, {many_bytes:,} with {heads}"
    yield Evidence("M7", "a smaller cache", measured, few_bytes * groups == many_bytes)
    layers = subject.params["layers"]
    own = dict(layers["attention"])
    repeated = {name: jnp.repeat(own[name], groups, axis=2) for name in ("w_k", "w_v")}
    params = {**subject.params, "layers": {**layers, "attention": {**own, **repeated}}}
    far = np.abs(many.logits(many.tokens_BT, params) - subject.logits(subject.tokens_BT)).max()
    measured = f"{far:.1e} from {heads} kv heads, equal in groups of {groups}"
    yield Evidence("M7", "each serves its queries", measured, bool(far < CLOSE))


def softcap(subject: Subject) -> Iterator[Evidence]:
    """Logits are clamped at 50, then bent to stay below 15."""
    loud = {**subject.params, "w_head": 200.0 * subject.params["w_head"]}
    hidden = subject.read(subject.tokens_BT).hidden_BTD
    free, clamped, capped = (
        float(jnp.abs(each.model.unembed(loud, hidden)).max())
        for each in (
            subject.changed(logit_softcap=0.0, logit_clamp=0.0),
            subject.changed(logit_softcap=0.0),
            subject,
        )
    )
    bound = 15 * np.tanh(50 / 15)
    measured = f"{free:.1f} free, {clamped:.4f} clamped, {capped:.4f} capped (15 tanh(50/15) = "
    passed = free > 50 == clamped and abs(capped - bound) < 1e-3
    yield Evidence("M9", "largest logit", f"{measured}{bound:.4f})", bool(passed))


def checkpoints(subject: Subject) -> Iterator[Evidence]:
    """Config as JSON and weights alone, out and in again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nanochat.write(folder / "config.json", subject.size)
        size = nanochat.read(folder / "config.json")
        config = nanochat.model_of(size)
        same = nanochat.size_of(config, size.vocab_size) == size == subject.size
        same &= config == subject.config
        measured = f"{len(vars(size))} fields written, {'all equal' if same else size} when read"
        yield Evidence("M10", "config.json", measured, same)
        state = TrainState(jnp.zeros((), jnp.int32), subject.params, {}, jax.random.key(0))
        shape = config.shape(size.vocab_size)
        opened = checkpoint.Checkpoints(
            folder, keep=1, milestone_steps={0}, model=shape, tokenizer_sha256=""
        )
        with checkpoint.lock_run(folder), opened as saves:
            saves.save(0, state, {}, kind="milestone", tokens_seen=0, metrics={})
        items = checkpoint.read_sidecar(folder, 0).items
        abstract = jax.eval_shape(build(size, config).init, jax.random.key(0))
        loaded = checkpoint.load_params(folder, 0, abstract)
    tokens_BT = subject.tokens_BT
    far = np.abs(subject.logits(tokens_BT, loaded) - subject.logits(tokens_BT)).max()
    measured = f"saved {', '.join(items)}; reloaded logits differ by {far:.0e}"
    yield Evidence("M10", "weights alone", measured, items == ("params",) and bool(far == 0))


def main(*, seed: Annotated[int, "of parameters and tokens", non_negative] = 0) -> None:
    """Prints the table, and fails when a promise does."""
    cli.quiet()
    failed = []
    for evidence in measure(seed):
        verdict = "PASS" if evidence.passed else "FAIL"
        print(f"{evidence.milestone:4} {verdict}  {evidence.promise:31} {evidence.measured}")
        failed += [] if evidence.passed else [f"{evidence.milestone} ({evidence.promise})"]
    if failed:
        raise NanogptError(f"not kept: {', '.join(failed)}; the table has the measurements")


if __name__ == "__main__":
    cli.run(main, __doc__)
