"""One device, eight, a mesh of 2x2x2 and pmap are one run; what cannot be is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.config import Parallel
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.parallel import mesh_shape, problems

REPOSITORY = Path(__file__).resolve().parents[1]
UP, DOWN = "['layers']['mlp']['w_up']", "['layers']['mlp']['w_down']"


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """What eight_devices.py prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.eight_devices"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_batches_and_parameters_are_really_split(measured: dict[str, Any]) -> None:
    devices = {name: measured[name]["devices"] for name in ("one", "data", "mesh", "pmap")}
    assert devices == {"one": 1, "data": 8, "mesh": 8, "pmap": 8}
    rows = {name: measured[name]["batch_pieces"] for name in devices}
    assert rows == {"one": 1, "data": 8, "mesh": 4, "pmap": 8}
    assert set(measured["one"]["pieces"].values()) == {1}
    assert set(measured["data"]["pieces"].values()) == {1}
    split = measured["mesh"]["pieces"]
    assert split[UP] == split[DOWN] == 4  # over fsdp and tensor
    assert split["['w_embed']"] == split["['w_head']"] == 4
    assert split["['layers']['attention']['w_k']"] == 4
    assert split["['layers']['norm_mlp']['gain']"] == 2  # its one dimension, over fsdp


@pytest.mark.parametrize("layout", ["data", "mesh", "pmap"])
def test_every_layout_has_the_losses_of_one_device(measured: dict[str, Any], layout: str) -> None:
    one, other = measured["one"], measured[layout]
    assert one["devices"] < other["devices"] and one["batch_pieces"] < other["batch_pieces"]
    assert len(one["losses"]) == 20
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-5)
    assert one["losses"][-1] != one["losses"][0]
    assert one["step"] == other["step"] == 20


def test_muon_with_accumulation_has_the_losses_of_one_device(measured: dict[str, Any]) -> None:
    one, other = measured["muon one"], measured["muon mesh"]
    assert one["pieces"][UP] == 1 and other["pieces"][UP] == 4
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-5)


@pytest.mark.parametrize("layout", ["one", "data", "mesh", "pmap"])
def test_twenty_steps_are_one_compilation(measured: dict[str, Any], layout: str) -> None:
    assert measured[layout]["compilations"] == [1] + [0] * 19


@pytest.mark.parametrize("run", ["mesh", "muon mesh"])
def test_moments_lie_where_their_parameters_lie(measured: dict[str, Any], run: str) -> None:
    shardings, moments = measured[run]["sharding"], measured[run]["moments"]
    assert len(set(shardings.values())) > 3
    followed = {
        address: name for address in moments for name in shardings if address.endswith(name)
    }
    assert set(followed.values()) == set(shardings)  # each has a moment
    for address, name in followed.items():
        assert moments[address] == shardings[name], address


@pytest.mark.parametrize("layout", ["one", "data", "mesh", "pmap"])
def test_a_restore_is_told_where_the_state_lies(measured: dict[str, Any], layout: str) -> None:
    assert measured[layout]["as_announced"]


def test_one_device_leaves_no_constraint_in_the_program(measured: dict[str, Any]) -> None:
    assert measured["constraints"]["mesh"] > 0
    assert measured["constraints"]["one"] == 0


def test_a_dimension_that_does_not_divide_stays_whole_with_one_warning(
    measured: dict[str, Any],
) -> None:
    (warning,) = measured["undivided"]["warnings"]
    specs = measured["undivided"]["specs"]
    assert "['layers']['attention']['w_k'] kv_heads=1 by tensor=2" in warning
    assert "['layers']['attention']['w_v']" in warning and "w_q" not in warning
    assert specs["w_k"] == [None, "fsdp", None, None]  # its other dimension is split all the same
    assert specs["w_q"] == [None, "fsdp", "tensor", None]


def test_minus_one_takes_the_devices_that_are_left() -> None:
    assert mesh_shape(Parallel(), 8) == (8, 1, 1)
    assert mesh_shape(Parallel(fsdp=2, tensor=2), 8) == (2, 2, 2)
    assert mesh_shape(Parallel(data=2, fsdp=-1), 8) == (2, 4, 1)
    assert mesh_shape(Parallel(data=2), 8) == (2, 1, 1)  # said, so the others stay idle
    assert mesh_shape(Parallel(mode="pmap"), 8) == (8, 1, 1)


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        (Parallel(data=4, tensor=3), "tensor=3 needs 12 devices, 8 found; .*cpu_devices=12"),
        (Parallel(tensor=16), "needs 16 devices, 8 found"),
        (Parallel(fsdp=3), "8 devices found, not a multiple of 3"),
    ],
)
def test_devices_that_do_not_suffice_are_counted(parallel: Parallel, message: str) -> None:
    assert not problems(parallel)
    with pytest.raises(ConfigError, match=message):
        mesh_shape(parallel, 8)


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        (Parallel(fsdp=-1), "data=-1 parallel.fsdp=-1 .*at most one is -1"),
        (Parallel(tensor=0), "tensor=0: sizes are at least 1"),
        (Parallel(data=-2), "data=-2 .*sizes are at least 1"),
        (Parallel(mode="pmap", tensor=2), "pmap.* splits the batch only"),
    ],
)
def test_sizes_that_no_machine_has_are_known_without_one(parallel: Parallel, message: str) -> None:
    assert len(problems(parallel)) == 1
    with pytest.raises(ConfigError, match=message):
        mesh_shape(parallel, 8)


def test_copies_of_a_model_add_up_its_gradient_once(measured: dict[str, Any]) -> None:
    found = measured["axes"]["data"]
    ((name, sizes),) = found["sent"].items()
    assert name == "all-reduce" and len(sizes) == 1
    assert 0 < sizes[0] - found["params"] < 64  # and the sums of the loss
    assert found["held"] == found["whole"]


def test_split_parameters_are_gathered_where_they_are_used(measured: dict[str, Any]) -> None:
    found = measured["axes"]["fsdp"]
    sent = {name: sum(sizes) for name, sizes in found["sent"].items()}
    # Forwards all of them, and backwards again those that the compiler let go of.
    assert 0.9 * found["params"] < sent["all-gather"] < 2 * found["params"]
    # On CPU the sum of a gradient is sliced after it is sent; elsewhere it is scattered.
    gradients = sent.get("all-reduce", 0) + sent.get("reduce-scatter", 0)
    assert 0.9 * found["params"] < gradients < 1.1 * found["params"]
    assert found["held"] < 1.01 * found["whole"] / 8


def test_split_matrices_send_activations_and_no_parameters(measured: dict[str, Any]) -> None:
    found = measured["axes"]["tensor"]
    assert found["sent"].keys() == {"all-reduce"}
    rows, length, width, layers = 16 // 2, 8, 16, 2  # of tests/eight_devices.py
    activations = rows * length * width * 4
    # After attention and after the MLP, forwards and backwards.
    assert sum(found["sent"]["all-reduce"]) > 4 * layers * activations
    assert found["held"] < 1.05 * found["whole"] / 4
