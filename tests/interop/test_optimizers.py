"""The truth from outside: torch's optimizers make the same updates."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from nanogpt_jax.optim import optimizers
from nanogpt_jax.optim.groups import group

pytestmark = pytest.mark.parity

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan 2024
SHAPES = {"wide": (24, 64), "tall": (64, 24), "square": (32, 32)}


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def update(name: str, param: np.ndarray, grad: np.ndarray, **numbers: float) -> np.ndarray:
    """The first direction of an optimizer for one matrix, in float32."""
    build = optimizers[name](group({"w": ("embed", "mlp")}), **numbers)

    def first(params: Any, grads: Any) -> Any:
        return build.update(grads, build.init(params), params)[0]

    return np.asarray(jax.jit(first)({"w": param}, {"w": grad})["w"])


def draw(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0)
    param, grad = noise.normal(size=(2, *shape)).astype(np.float32)
    return param, grad


def test_one_update_of_adamw_is_torchs(torch: Any):
    param, grad = draw((24, 16))
    theirs = torch.nn.Parameter(torch.tensor(param))
    theirs.grad = torch.tensor(grad)
    numbers = {"eps": 1e-8, "weight_decay": 0.1}
    torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), **numbers).step()
    ours = param - 0.01 * update("adamw", param, grad, b1=0.9, b2=0.95, **numbers)
    assert np.abs(ours - param).min() > 1e-3
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6, rtol=0)


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """Five steps of the quintic iteration in float64, on the shorter side."""
    a, b, c = COEFFICIENTS
    x = matrix.astype(np.float64) / np.linalg.norm(matrix)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_muons_newton_schulz_is_that_of_float64(shape: tuple[int, int]):
    param, grad = draw(shape)
    scale = max(1.0, shape[1] / shape[0]) ** 0.5
    ours = update("muon", param, grad) / scale
    np.testing.assert_allclose(ours, newton_schulz(grad), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_update_of_muon_is_torchs_in_bfloat16(torch: Any, shape: tuple[int, int]):
    """torch keeps (outputs, inputs), and iterates in bfloat16."""
    param, grad = draw(shape)
    theirs = torch.nn.Parameter(torch.tensor(param.T.copy()))
    theirs.grad = torch.tensor(grad.T.copy())
    torch.optim.Muon([theirs], lr=1.0, weight_decay=0.0, momentum=0.95).step()
    direction = param - theirs.detach().numpy().T
    ours = update("muon", param, grad, momentum=0.95)
    assert np.abs(ours).max() > 0.2
    np.testing.assert_allclose(ours, direction, atol=2e-2, rtol=0)
