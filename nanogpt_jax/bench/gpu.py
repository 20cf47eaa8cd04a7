"""`bench gpu`: GPT-2 124M on one NVIDIA GPU in bfloat16, beside nanoGPT under torch.compile.

Training in tokens a second and as a share of the chip's peak, attention alone, and decoding as a
share of the memory's bandwidth. Every contestant is a process of its own, and the parent opens no
backend: a device's memory has room for two that train, not for one more that does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import attention_kernel, costs
from nanogpt_jax.bench import ours
from nanogpt_jax.bench.contest import Contestant, Found, compete
from nanogpt_jax.bench.suites import OURS, TORCH, Contest, Limit, Measure
from nanogpt_jax.decoding import Decoding
from nanogpt_jax.errors import NanogptError
from nanogpt_jax.experiment import Plan
from nanogpt_jax.experiment.building import build_model
from nanogpt_jax.interface import Array, KVCache, LanguageModel, Params

GPU = "nanogpt_jax.bench.gpu"
# The vocabulary is nanoGPT's, rounded up from 50257 to a multiple of 64.
GPT2_124M = {"n_layer": 12, "n_head": 12, "d_model": 768, "length": 1024, "vocab": 50304}
MFU = Limit("at least", 0.45)
BANDWIDTH_SHARE = Limit("at least", 0.60)
# Bytes that a layer keeps of a position for the backward pass, by channel of the stream: about 20
# numbers of two bytes (norms, queries, keys, values, mixture, hidden units before and after).
KEPT_BYTES = 40
MOST_ROWS = 64  # 65,536 positions fill any chip of the table
# Both that train share the memory, and nobody is to grow while it is timed.
HALF_THE_MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".45"}


def gpu(torch: bool) -> list[Contest]:
    """GPT-2 124M on a GPU: updates, attention alone, and decoding."""
    machine = look(GPT2_124M)
    if machine["backend"] != "gpu":
        raise NanogptError(
            f"bench gpu found {machine['backend']}, required cuda: run it where there is an NVIDIA "
            "GPU, with NANOGPT_EXTRAS=cuda13 scripts/run, or scripts/bench_gpu.sh"
        )
    batch = largest_batch(GPT2_124M, machine["memory_bytes"])
    return contests(GPT2_124M, batch, torch, machine)


def look(sizes: Mapping[str, int], **variables: str) -> Found:
    """What `describe` finds, in a process that has ended and holds no memory any more."""
    child = Contestant("the device", f"{GPU}:describe", {"sizes": sizes}, variables)
    return compete([child], 1)[child.name][0]


def describe(*, sizes: Mapping[str, int]) -> Callable[[], Mapping[str, Any]]:
    """A round tells backend, chip and memory, and what keeps cuDNN from attending, if anything."""
    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    heads, channels = sizes["n_head"], sizes["d_model"] // sizes["n_head"]
    shape = attention_kernel.Shape("bfloat16", heads, heads, channels, sizes["length"])
    found = {
        "backend": jax.default_backend(),
        "kind": device.device_kind,
        "memory_bytes": memory.get("bytes_limit", 0),
        "obstacle": attention_kernel.obstacle(shape, masked=False),
    }
    return lambda: found


def largest_batch(sizes: Mapping[str, int], memory_bytes: int) -> int:
    """The largest power of two of rows, up to `MOST_ROWS`, that a third of the memory can hold."""
    row = sizes["n_layer"] * sizes["length"] * sizes["d_model"] * KEPT_BYTES
    rows = max(1, memory_bytes // 3 // row)
    return min(MOST_ROWS, 1 << (rows.bit_length() - 1))


def contests(
    sizes: Mapping[str, int],
    batch: int,
    torch: bool,
    machine: Found,
    *,
    steps: int = 10,
    new_tokens: int = 256,
    dtype: str = "bfloat16",
) -> list[Contest]:
    """The contests at one size on the machine that `look` saw."""
    cudnn = machine["obstacle"] is None
    where = f"{machine['kind']}, {'cuDNN' if cudnn else machine['obstacle']}"
    work = {**sizes, "batch": batch, "steps": steps, "dtype": dtype}
    trained = [Contestant("ours", f"{GPU}:train", work, HALF_THE_MEMORY)]
    length, H, D = sizes["length"], sizes["n_head"], sizes["d_model"]
    heads = {"batch": batch, "heads": H, "length": length, "channels": D // H}
    attended = {**heads, "repeats": 10, "dtype": dtype}
    attending = [
        Contestant("ours", f"{OURS}:attention", {**attended, "cudnn": cudnn}, HALF_THE_MEMORY)
    ]
    if torch:
        trained.append(Contestant("torch.compile", f"{TORCH}:train", {**work, "compiled": True}))
        attending.append(Contestant("torch", f"{TORCH}:attention", attended))
    tokens = steps * batch * length
    # Two products forward and five backward, half of them masked.
    flops = 7 * batch * length**2 * D * attended["repeats"]
    size = f"{sizes['n_layer']}x{D} T{length}"
    decoded = {**sizes, "new_tokens": new_tokens, "dtype": dtype}
    return [
        Contest(
            f"train {size} B{batch} {dtype} ({where})",
            "token",
            trained,
            tokens,
            rival="torch.compile",
            target=1.0,
            measures=[Measure("mfu", limit=MFU)],
        ),
        Contest(
            f"attention B{batch} H{H} T{length} C{D // H} {dtype} ({where})",
            "GFLOP",
            attending,
            flops / 1e9,
            rival="torch",
        ),
        Contest(
            f"decode {size} B1 {dtype} ({machine['kind']})",
            "token",
            [Contestant("ours", f"{GPU}:decode", decoded)],
            new_tokens,
            measures=[Measure("bandwidth_share", limit=BANDWIDTH_SHARE)],
        ),
    ]


def train(*, batch: int, steps: int, dtype: str, **sizes: int) -> Callable[[], Mapping[str, Any]]:
    """A round of `ours.train`, which tells its share of the chip's peak as well."""
    plan, model = _build(dtype, **sizes)
    shapes, length = jax.eval_shape(model.init, jax.random.key(0)), sizes["length"]
    shape = plan.model.shape(sizes["vocab"])
    flops = costs.train_flops_per_token(shapes, model.axes, shape, length) * batch * length * steps
    peak = _known(costs.peak_flops(jax.devices()[:1]), "costs.PEAK_FLOPS")
    update = ours.train(batch=batch, steps=steps, dtype=dtype, **sizes)

    def work() -> Mapping[str, Any]:
        start = time.perf_counter()
        found = update()
        return {**found, "mfu": flops / (time.perf_counter() - start) / peak}

    return work


def decode(*, new_tokens: int, dtype: str, **sizes: int) -> Callable[[], Mapping[str, Any]]:
    """A round of greedy tokens after a prompt of one row, in one program, up to the context's end.

    The parameters are held in `dtype`, as one holds them who only generates. A round tells the
    share of the memory's bandwidth that reading them and the whole cache for every token takes.
    """
    _, model = _build(dtype, **sizes)

    def init(key: Array) -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), model.init(key))

    params = jax.jit(init)(jax.random.key(0))
    decoding = Decoding(model, sizes["length"])
    read_bytes = costs.decode_bytes_per_token(
        jax.eval_shape(init, jax.random.key(0)),
        model.axes,
        jax.eval_shape(lambda: decoding.empty(1).cache),
    )
    peak = _known(costs.peak_bandwidth(jax.devices()[:1]), "costs.PEAK_BANDWIDTH")
    prompt = np.random.default_rng(0).integers(sizes["vocab"], size=sizes["length"] - new_tokens)
    params = decoding.prepare(params)
    logits_1V, cache = decoding.read(params, [prompt.tolist()])

    @jax.jit
    def continue_text(params: Params, token_B: Array, cache: KVCache) -> Array:
        def step(state: tuple[Array, KVCache], _: None) -> tuple[tuple[Array, KVCache], Array]:
            logits_BV, cache = decoding.advance(params, state[1], state[0])
            token_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
            return (token_B, cache), token_B

        return jax.lax.scan(step, (token_B, cache), None, length=new_tokens)[1]

    first_B = jnp.argmax(logits_1V, axis=-1).astype(jnp.int32)

    def work() -> Mapping[str, Any]:
        start = time.perf_counter()
        tokens = np.asarray(continue_text(params, first_B, cache))
        seconds = time.perf_counter() - start
        share = read_bytes * new_tokens / seconds / peak
        return {"bandwidth_share": share, "last_token": int(tokens[-1, 0])}

    return work


def _build(dtype: str, *, vocab: int, **sizes: int) -> tuple[Plan, LanguageModel]:
    changes = {"train.seq_len": sizes["length"], "train.compute_dtype": dtype}
    plan = ours.plan_of(**sizes, changes=changes)
    return plan, build_model(plan, vocab, training=True)


def _known(peak: float | None, table: str) -> float:
    if peak is None:
        raise NanogptError(
            f"found the chip {jax.devices()[0].device_kind!r}, required one of {table}: add its "
            "figure from the data sheet"
        )
    return peak
