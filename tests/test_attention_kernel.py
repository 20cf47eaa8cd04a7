"""Who attends: cuDNN only where a trial has shown that it does it right; a fake stands for it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from nanogpt_jax import attention, attention_kernel, models
from nanogpt_jax.attention_kernel import OWN, Kernel, Shape, choose_kernel, deviation_of, obstacle
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.experiment.building import build_model
from nanogpt_jax.models import gpt

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SHAPE = Shape("bfloat16", n_head=4, n_kv_head=2, d_head=8, length=12)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    obstacle.cache_clear()
    yield
    obstacle.cache_clear()


def attend_plainly(q: Any, k: Any, v: Any, allowed: Any = None) -> Any:
    """What cuDNN does, in XLA."""
    return attention.attend(
        q, k, v, attention.causal_mask(q.shape[2]) if allowed is None else allowed
    )


class Fake:
    """cuDNN on a GPU that is none; notes whether it was called with a mask."""

    def __init__(self, masks: bool = True, answer: Any = attend_plainly):
        self.calls: list[bool] = []
        self._masks, self._answer = masks, answer

    def __call__(self, q: Any, k: Any, v: Any, allowed: Any = None) -> Any:
        self.calls.append(allowed is not None)
        if allowed is not None and not self._masks:
            raise NotImplementedError("Unsupported\n sequence length")
        return self._answer(q, k, v, allowed)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(fake: Any) -> Any:
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(attention, "attend_with_cudnn", fake)
        return fake

    return put


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def note(level: int, message: str, *words: Any) -> None:
        if level <= logging.INFO:
            found.append(message % words)

    monkeypatch.setattr(logging, "log", note)
    monkeypatch.setattr(logging, "info", lambda *words: note(logging.INFO, *words))
    return found


def test_on_a_cpu_our_own_code_attends_and_nothing_is_said(lines: list[str]):
    assert choose_kernel("auto", SHAPE) is OWN
    assert lines == []


@pytest.mark.slow
def test_what_was_seen_to_work_is_chosen_with_one_line_and_tried_once(
    install: Any, lines: list[str]
):
    fake = install(Fake())
    assert choose_kernel("auto", SHAPE) == Kernel(12, masked=True)
    assert lines == ["attention: cuDNN's at 12 positions of bfloat16; all"]
    assert sorted(set(fake.calls)) == [False, True]
    tried = len(fake.calls)
    assert choose_kernel("cudnn", SHAPE) == Kernel(12, masked=True)
    assert len(fake.calls) == tried


def test_without_masks_rows_with_segments_stay_our_own(install: Any, lines: list[str]):
    install(Fake(masks=False))
    assert choose_kernel("auto", SHAPE) == Kernel(12, masked=False)
    assert len(lines) == 1 and "rows with segments, because" in lines[0]
    assert "NotImplementedError: Unsupported sequence length" in lines[0]


def wrong_scale(q: Any, k: Any, v: Any, allowed: Any = None) -> Any:
    return attend_plainly(2 * q, k, v, allowed)


def no_mask(q: Any, k: Any, v: Any, allowed: Any = None) -> Any:
    return attention.attend(q, k, v, jnp.ones((1, q.shape[2], q.shape[2]), bool))


def nan(q: Any, k: Any, v: Any, allowed: Any = None) -> Any:
    return attend_plainly(q, k, v, allowed) * jnp.nan


def refusal(*_: Any) -> Any:
    raise RuntimeError("cuDNN is not detected.")


@pytest.mark.parametrize(
    "answer, reason",
    [
        (wrong_scale, "an error of "),
        (no_mask, "an error of "),
        (nan, "an error of nan%"),
        (refusal, "RuntimeError: cuDNN is not detected."),
    ],
)
def test_what_is_wrong_or_refuses_is_left_out_with_its_reason(
    install: Any, lines: list[str], answer: Any, reason: str
):
    install(Fake(answer=answer))
    assert choose_kernel("auto", SHAPE) is OWN
    assert len(lines) == 1 and f"because cuDNN's found {reason}" in lines[0]
    with pytest.raises(ConfigError, match=r"found .*is required: use train.attention=auto"):
        choose_kernel("cudnn", SHAPE)


def test_a_bug_of_ours_in_the_trial_is_not_taken_for_a_refusal(install: Any):
    install(lambda q, k, v, allowed=None: q.no_such_method())
    with pytest.raises(AttributeError):
        choose_kernel("auto", SHAPE)


@pytest.mark.parametrize("backend, dtype", [("tpu", "bfloat16"), ("gpu", "float32")])
def test_other_backends_and_dtypes_are_not_tried(
    install: Any, monkeypatch: pytest.MonkeyPatch, lines: list[str], backend: str, dtype: str
):
    fake = install(Fake())
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert choose_kernel("auto", SHAPE._replace(dtype=dtype)) is OWN
    assert fake.calls == [] and len(lines) == 1


def test_own_and_a_model_without_heads_try_nothing(install: Any, lines: list[str]):
    fake = install(Fake())
    assert choose_kernel("own", SHAPE) is OWN
    assert choose_kernel("auto", SHAPE._replace(n_head=0)) is OWN
    assert fake.calls == [] and lines == []


def test_a_mesh_of_several_devices_uses_it_only_where_it_is_asked_for(
    install: Any, lines: list[str]
):
    install(Fake())
    assert choose_kernel("auto", SHAPE, split=True) is OWN
    assert "train.attention=cudnn does it" in lines[0]
    assert choose_kernel("cudnn", SHAPE, split=True).length == 12


@pytest.mark.parametrize("name", ["gpt", "moe", "single_head", "multi_head", "rustgpt"])
def test_every_model_attends_with_it_at_its_length_and_nowhere_else(install: Any, name: str):
    fake = install(Fake())
    config = models.models[name](max_seq_len=16, d_model=16)
    tokens = jnp.zeros((2, 12), jnp.int32)
    params = jax.eval_shape(models.build(name, config, 11).init, jax.random.key(0))

    def called(tokens: Any, masked: bool = False, **words: Any) -> set[bool]:
        """Whether with a mask, of all calls while the model is traced."""
        del fake.calls[:]
        model = models.build(name, config, 11, kernel=Kernel(12, masked))
        jax.eval_shape(lambda params: model.apply(params, tokens, **words), params)
        return set(fake.calls)

    assert called(tokens) == {False}
    assert called(tokens, segments_BT=tokens) == set()
    assert called(tokens, masked=True, segments_BT=tokens) == {True}
    assert called(tokens, capture=("attention",)) == set()
    assert called(tokens, capture=("head_out",)) == {False}
    assert called(tokens[:, :11]) == set()
    cache = models.build(name, config, 11).empty_cache
    assert cache and called(tokens, cache=cache(2, 12)) == set()


@pytest.mark.parametrize(
    "segments", [pytest.param(None, marks=pytest.mark.slow), np.repeat([[0, 1], [4, 5]], 6, axis=1)]
)
def test_whoever_attends_the_model_says_the_same(install: Any, segments: Any):
    install(Fake())
    config = gpt.Config(n_layer=1, n_head=2, n_kv_head=1, d_model=16, max_seq_len=12, init="gpt2")
    tokens = np.arange(24).reshape(2, 12) % 11
    kernels = (OWN, Kernel(12, masked=True))
    own, other = (models.build("gpt", config, 11, kernel=kernel) for kernel in kernels)
    params = quick_jit(own.init)(jax.random.key(0))

    def hidden(model: Any) -> Any:
        run = quick_jit(lambda params: model.apply(params, tokens, segments_BT=segments))
        return run(params).hidden_BTD

    np.testing.assert_allclose(hidden(own), hidden(other), atol=1e-5)


def test_dropped_probabilities_are_our_own(install: Any):
    fake = install(Fake())
    config = gpt.Config(n_layer=1, d_model=16, max_seq_len=12, dropout=0.5)
    model = models.build("gpt", config, 11, kernel=Kernel(12))
    tokens, key = jnp.zeros((1, 12), jnp.int32), jax.random.key(0)

    def trace(dropout_key: Any) -> None:
        params = jax.eval_shape(model.init, key)
        jax.eval_shape(lambda params: model.apply(params, tokens, dropout_key=dropout_key), params)

    trace(key)
    assert fake.calls == []
    trace(None)
    assert fake.calls == [False]


def test_the_config_reaches_the_trial(monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def note(*words: Any, **more: Any) -> Kernel:
        asked.append((words, more))
        return OWN

    monkeypatch.setattr(attention_kernel, "choose_kernel", note)
    words = {"model.n_head": "4", "model.n_kv_head": "2", "model.d_model": "64"}
    words |= {"train.seq_len": "32", "train.attention": "own", "train.compute_dtype": "bfloat16"}
    base = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    build_model(resolve(base, list(words.items())), 11, training=True)
    assert asked == [(("own", Shape("bfloat16", 4, 2, 16, 32)), {"split": False})]


def test_a_model_that_cudnn_trained_is_read_where_there_is_none():
    words = {"train.attention": "cudnn", "train.compute_dtype": "bfloat16"}
    base = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    plan = resolve(base, list(words.items()))
    assert "layers" in jax.eval_shape(build_model(plan, 11).init, jax.random.key(0))
    if jax.default_backend() != "gpu":
        with pytest.raises(ConfigError, match="='cudnn' found the backend"):
            build_model(plan, 11, training=True)


@pytest.mark.parametrize(
    "words, problem",
    [
        ({"train.compute_dtype": "float32"}, "cuDNN attends in bfloat16 or float16"),
        ({"model.dropout": "0.1"}, "model.dropout=0.1: dropped probabilities"),
    ],
)
def test_a_config_that_cudnn_can_never_do_is_refused_before_a_device_is_touched(
    words: dict[str, str], problem: str
):
    base = default_config(model="gpt", optimizer="adamw", schedule="warmup_cosine")
    resolve(base, list(words.items()))
    with pytest.raises(ConfigError, match=problem):
        resolve(base, [("train.attention", "cudnn"), *words.items()])


@pytest.mark.slow
def test_what_is_asked_of_cudnn_is_causal_attention_as_it_lays_arrays_out(
    monkeypatch: pytest.MonkeyPatch,
):
    """The call itself, done by XLA."""
    real, asked = jax.nn.dot_product_attention, []

    def by_xla(*arrays: Any, implementation: str, **words: Any) -> Any:
        asked.append(implementation)
        return real(*arrays, implementation="xla", **words)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    for masked in (False, True):
        found = deviation_of(attention.attend_with_cudnn, SHAPE._replace(dtype="float32"), masked)
        assert found < 1e-5
    assert asked == ["cudnn"] * 2


def test_without_cudnn_the_call_is_refused_with_an_error_that_the_trial_knows():
    with pytest.raises((RuntimeError, ValueError)):
        deviation_of(attention.attend_with_cudnn, SHAPE, False)


@pytest.mark.needs_gpu
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kv_heads", [12, 4])
def test_cudnn_attends_on_this_gpu(masked: bool, kv_heads: int):
    if (backend := jax.default_backend()) != "gpu":
        pytest.skip(f"needs_gpu: found only {backend}")
    assert obstacle(Shape("bfloat16", 12, kv_heads, 64, 1024), masked=masked) is None
