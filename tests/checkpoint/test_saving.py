"""What is saved comes back bit by bit, wherever it is put, and nothing wrong is saved or loaded."""

import functools
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nanogpt_jax import errors
from nanogpt_jax.checkpoint import (
    choose,
    digest_step,
    items,
    list_steps,
    load_params,
    newest_full_step,
    read_sidecar,
    read_sidecars,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_restored_state_is_bitwise_the_saved_one(open_run, save, state_of, bits):
    with open_run() as checkpoints:
        save(checkpoints, 7)
    abstract = jax.eval_shape(lambda: state_of(0))
    assert bits(state_of(0)) != bits(state_of(7))
    state, data = open_run().restore(7, abstract)
    assert bits(state) == bits(state_of(7))
    assert jax.tree.structure(state) == jax.tree.structure(state_of(7))
    assert data == {"batch": 7}
    jax.random.split(state.key)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.lion(1e-3)], ids=["sgd", "lion"])
def test_optimizer_states_of_other_forms_come_back(optimizer, open_run, save, state_of, bits):
    state = state_of(1, optimizer)
    with open_run() as checkpoints:
        save(checkpoints, 1, state=state)
    restored, _ = open_run().restore(1, jax.eval_shape(lambda: state_of(0, optimizer)))
    assert bits(restored) == bits(state)


def test_the_state_may_be_donated_as_soon_as_save_returns(
    open_run, save, state_of, bits, monkeypatch
):
    write, donated = items.write, threading.Event()
    monkeypatch.setattr(items, "write", lambda *arguments: donated.wait(10) and write(*arguments))

    @functools.partial(jax.jit, donate_argnums=0)
    def overwrite(state):
        return state._replace(
            step=state.step + 1,
            params=jax.tree.map(lambda leaf: leaf - 1, state.params),
            opt_state=jax.tree.map(lambda leaf: leaf * 2 + 1, state.opt_state),
            key=jax.random.fold_in(state.key, 1),
        )

    state = state_of(3)._replace(params={"w": jnp.arange(1 << 16, dtype=jnp.float32)})
    expected = bits(state)
    with open_run() as checkpoints:
        save(checkpoints, 3, state=state)
        later = overwrite(overwrite(state))
        assert state.params["w"].is_deleted() and state.key.is_deleted()
        donated.set()
    restored, _ = open_run().restore(3, jax.eval_shape(lambda: later))
    assert bits(restored) == expected != bits(later)


def test_the_data_position_is_that_of_the_call_not_of_the_write(open_run, state_of):
    position = {"epoch": 0, "shards": [1, 2]}
    with open_run() as checkpoints:
        checkpoints.save(1, state_of(1), position, kind="final", tokens_seen=1, metrics={})
        position["shards"].append(3)
    _, data = open_run().restore(1, jax.eval_shape(lambda: state_of(1)))
    assert data == {"epoch": 0, "shards": [1, 2]}


def test_a_milestone_holds_parameters_that_sampling_can_load_and_training_cannot(
    open_run, save, state_of, bits, tmp_path
):
    with open_run() as checkpoints:
        save(checkpoints, 2, kind="milestone")
    assert not (tmp_path / "checkpoints/2/opt_state").exists()
    params = load_params(tmp_path, 2, jax.eval_shape(lambda: state_of(0).params))
    assert bits(params) == bits(state_of(2).params)
    with pytest.raises(errors.NoCheckpoint, match="no full checkpoint for --step=2: found none"):
        open_run().restore(2, jax.eval_shape(lambda: state_of(0)))


def test_a_state_saved_on_one_device_goes_to_four_and_back_with_one_digest(
    open_run, save, state_of, bits, tmp_path
):
    with open_run() as checkpoints:
        save(checkpoints, 1)
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", ON_FOUR_DEVICES, str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    assert "sharded over 4" in child.stdout
    assert child.stderr == ""
    assert digest_step(tmp_path, 2) == digest_step(tmp_path, 1)
    restored, _ = open_run().restore(2, jax.eval_shape(lambda: state_of(0)))
    assert bits(restored) == bits(state_of(1))


ON_FOUR_DEVICES = """
import logging, sys
from pathlib import Path
import absl.logging
import jax, jax.numpy as jnp, optax
logging.basicConfig(level=logging.INFO)
logging.getLogger("jax").setLevel(logging.WARNING)
absl.logging.set_verbosity(absl.logging.INFO)
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import NamedSharding, PartitionSpec
from nanogpt_jax.checkpoint import Checkpoints, read_sidecar
from nanogpt_jax.state import TrainState

run = Path(sys.argv[1])
mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

def create():
    params = {"wte": jnp.zeros((4, 3)), "blocks": {"scale": jnp.zeros(3, jnp.bfloat16)}}
    return TrainState(jnp.int32(0), params, optax.adamw(1e-3).init(params), jax.random.key(0))

def place(leaf):
    spec = PartitionSpec("data") if leaf.shape == (4, 3) else PartitionSpec()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

shape = read_sidecar(run, 1).model
with Checkpoints(run, keep=3, milestone_steps=(), model=shape, tokenizer_sha256="") as checkpoints:
    state, data = checkpoints.restore(1, jax.tree.map(place, jax.eval_shape(create)))
    shards = {shard.data.shape for shard in state.params["wte"].addressable_shards}
    assert shards == {(1, 3)}, shards
    print("sharded over", len(state.opt_state[0].mu["wte"].addressable_shards))
    checkpoints.save(2, state, data, kind="periodic", tokens_seen=0, metrics={})
"""


@pytest.mark.parametrize(
    ("change", "found", "required"),
    [
        ({"wte": jnp.zeros((5, 3))}, "float32[4, 3] at params/wte", "float32[5, 3]"),
        ({"wte": jnp.zeros((4, 3), jnp.bfloat16)}, "float32[4, 3] at params/wte", "bfloat16[4, 3]"),
        ({"wpe": jnp.zeros(2)}, "nothing at params/wpe", "float32[2]"),
        ({"blocks": {}}, "bfloat16[3] at params/blocks/scale", "nothing"),
    ],
)
def test_parameters_of_another_model_are_refused_by_name(
    change, found, required, open_run, save, state_of, tmp_path
):
    with open_run() as checkpoints:
        save(checkpoints, 1)
    with pytest.raises(errors.Mismatch) as caught:
        load_params(tmp_path, 1, state_of(1).params | change)
    assert f"{found}, {required} is required" in str(caught.value)


def test_the_state_of_another_optimizer_is_refused(open_run, save, state_of):
    with open_run() as checkpoints:
        save(checkpoints, 1)
    with pytest.raises(errors.Mismatch, match="at opt_state/0/nu"):
        open_run().restore(1, jax.eval_shape(lambda: state_of(0, optax.lion(1e-3))))


@pytest.mark.parametrize(
    ("place", "name"),
    [("params", "params/wte"), ("opt_state", "opt_state/0/mu/wte")],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_never_written(
    place, name, value, open_run, save, state_of, tmp_path
):
    def spoil(path, leaf):
        spoiled = jax.tree_util.keystr(path, simple=True, separator="/") == name
        return leaf.at[1, 2].set(value) if spoiled else leaf

    state = state_of(5)
    trees = jax.tree_util.tree_map_with_path(
        spoil, {"params": state.params, "opt_state": state.opt_state}
    )
    with open_run() as checkpoints:
        with pytest.raises(errors.NonFinite, match=f"^{name} is not finite at step 5"):
            save(checkpoints, 5, state=state._replace(**trees))
        assert list_steps(tmp_path) == []
        save(checkpoints, 6)
    assert list_steps(tmp_path) == [6]


def test_a_sidecar_tells_what_was_saved(open_run, save, tmp_path):
    with open_run() as checkpoints:
        metrics = {"val/loss": np.float32(1.5), "train_loss": float("nan")}
        save(checkpoints, 4, kind="final", interrupted=True, tokens_seen=99, metrics=metrics)
    sidecar = read_sidecar(tmp_path, 4)
    assert (sidecar.step, sidecar.kind, sidecar.interrupted) == (4, "final", True)
    assert (sidecar.tokens_seen, sidecar.metrics) == (99, {"val/loss": 1.5})
    assert sidecar.full
    assert read_sidecars(tmp_path) == [sidecar]


def test_a_damaged_file_is_told_as_such(open_run, save, state_of, tmp_path):
    with open_run() as checkpoints:
        save(checkpoints, 1)
    for file in (tmp_path / "checkpoints/1/params/d").iterdir():
        file.unlink()
    with pytest.raises(errors.NoCheckpoint, match="checkpoints/1 cannot be read"):
        load_params(tmp_path, 1, jax.eval_shape(lambda: state_of(0).params))


def test_the_step_flag_chooses_what_it_says(open_run, save, tmp_path):
    losses = {1: 3.0, 2: 2.0, 3: float("nan"), 4: 2.5}
    with open_run() as checkpoints:
        for step, loss in losses.items():
            kind = "milestone" if step in (2, 4) else "periodic"
            save(checkpoints, step, kind=kind, metrics={"val/loss": loss})
    assert choose(tmp_path, "last") == 4
    assert choose(tmp_path, "last", full=True) == newest_full_step(tmp_path) == 3
    assert choose(tmp_path, "best") == 2
    assert choose(tmp_path, "1") == 1
    with pytest.raises(errors.NoCheckpoint, match="found steps 1, 2, 3, 4; choose one"):
        choose(tmp_path, "5")
    with pytest.raises(errors.NoCheckpoint, match=r"full checkpoint .* found steps 1, 3; choose"):
        choose(tmp_path, "best", full=True)
    with pytest.raises(errors.ConfigError, match="a step, 'last' or 'best' is required"):
        choose(tmp_path, "newest")


def test_a_run_without_checkpoints_has_no_last_and_no_best(tmp_path):
    assert newest_full_step(tmp_path / "missing") is None
    for which in ("last", "best", "0"):
        with pytest.raises(errors.NoCheckpoint, match="found none; train first"):
            choose(tmp_path / "missing", which)
