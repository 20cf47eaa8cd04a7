"""The GPT of `scalar` on NumPy matrices: all positions at once, and every slope derived by hand.

Each part returns its result and the function that takes the slopes of the loss in that result to
the slopes in the part's arguments, `dx` for an `x`: forward and backward stand side by side. There
is no graph and no cache; a name is sampled by computing it all again for every token.

Shapes live in names: T query position, S key position, D width, F = 4 D hidden width, H heads,
C = D / H, V vocabulary; I and O are any two widths. A weight is OI, so it multiplies transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nanogpt_jax.microgpt.scalar import Numbers, Reader, Settings

Array = np.ndarray
Weights = dict[str, Array]


def linear(w_OI: Array, x_TI: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """y = x Wᵀ; backward: dx = dy W, dW = dyᵀ x."""

    def backward(dy_TO: Array) -> tuple[Array, Array]:
        return dy_TO @ w_OI, dy_TO.T @ x_TI

    return x_TI @ w_OI.T, backward


def rms_norm(x_TD: Array) -> tuple[Array, Callable[[Array], Array]]:
    """y = r x with r = (mean(x²) + 1e-5)^-1/2; backward: dx = r dy - r³ x mean(x dy)."""
    r_T1 = (np.mean(x_TD**2, axis=-1, keepdims=True) + 1e-5) ** -0.5

    def backward(dy_TD: Array) -> Array:
        return r_T1 * dy_TD - r_T1**3 * x_TD * np.mean(x_TD * dy_TD, axis=-1, keepdims=True)

    return r_T1 * x_TD, backward


def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x) over the last axis."""
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def attend(
    q_TD: Array, k_TD: Array, v_TD: Array, n_head: int
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """y = p v with p = softmax(q kᵀ / √C) over the keys up to each query, head by head.

    Backward: dv = pᵀ dy, dp = dy vᵀ, and through the softmax ds = p (dp - Σ p dp), from which
    dq = ds k / √C and dk = dsᵀ q / √C.
    """
    T, D = q_TD.shape
    C = D // n_head

    def split(x_TD: Array) -> Array:
        return x_TD.reshape(T, n_head, C).swapaxes(0, 1)

    def join(x_HTC: Array) -> Array:
        return x_HTC.swapaxes(0, 1).reshape(T, D)

    q_HTC, k_HSC, v_HSC = split(q_TD), split(k_TD), split(v_TD)
    scores_HTS = q_HTC @ k_HSC.swapaxes(1, 2) / C**0.5
    p_HTS = softmax(np.where(np.tri(T, dtype=bool), scores_HTS, -np.inf))

    def backward(dy_TD: Array) -> tuple[Array, Array, Array]:
        dy_HTC = split(dy_TD)
        dp_HTS = dy_HTC @ v_HSC.swapaxes(1, 2)
        ds_HTS = p_HTS * (dp_HTS - np.sum(p_HTS * dp_HTS, axis=-1, keepdims=True))
        dq_HTC = ds_HTS @ k_HSC / C**0.5
        dk_HSC = ds_HTS.swapaxes(1, 2) @ q_HTC / C**0.5
        dv_HSC = p_HTS.swapaxes(1, 2) @ dy_HTC
        return join(dq_HTC), join(dk_HSC), join(dv_HSC)

    return join(p_HTS @ v_HSC), backward


def block(
    w: Weights, name: str, x_TD: Array, n_head: int
) -> tuple[Array, Callable[[Array], tuple[Array, Weights]]]:
    """x + attention(norm(x)), then x + mlp(norm(x)); backward: dx, and dW of each weight by name.

    What takes two ways forward collects two slopes backward: the stream beside each sublayer, and
    the norm that queries, keys and values are made from.
    """
    n_TD, norm_back = rms_norm(x_TD)
    q_TD, q_back = linear(w[f"{name}.wq"], n_TD)
    k_TD, k_back = linear(w[f"{name}.wk"], n_TD)
    v_TD, v_back = linear(w[f"{name}.wv"], n_TD)
    mixed_TD, attend_back = attend(q_TD, k_TD, v_TD, n_head)
    change_TD, o_back = linear(w[f"{name}.wo"], mixed_TD)
    x_TD = x_TD + change_TD

    n_TD, mlp_norm_back = rms_norm(x_TD)
    h_TF, fc1_back = linear(w[f"{name}.fc1"], n_TD)
    change_TD, fc2_back = linear(w[f"{name}.fc2"], np.maximum(h_TF, 0.0))

    def backward(dx_TD: Array) -> tuple[Array, Weights]:
        drelu_TF, dfc2 = fc2_back(dx_TD)
        dn_TD, dfc1 = fc1_back(drelu_TF * (h_TF > 0.0))
        dx_TD = dx_TD + mlp_norm_back(dn_TD)

        dmixed_TD, dwo = o_back(dx_TD)
        dq_TD, dk_TD, dv_TD = attend_back(dmixed_TD)
        (dn_q_TD, dwq), (dn_k_TD, dwk), (dn_v_TD, dwv) = q_back(dq_TD), k_back(dk_TD), v_back(dv_TD)
        dx_TD = dx_TD + norm_back(dn_q_TD + dn_k_TD + dn_v_TD)

        found = {"wq": dwq, "wk": dwk, "wv": dwv, "wo": dwo, "fc1": dfc1, "fc2": dfc2}
        return dx_TD, {f"{name}.{part}": dw for part, dw in found.items()}

    return x_TD + change_TD, backward


def forward(
    w: Weights, inputs: list[int], settings: Settings
) -> tuple[Array, Callable[[Array], Weights]]:
    """Logits_TV of what follows each input; backward: dW of every weight."""
    x_TD, norm_back = rms_norm(w["wte"][inputs] + w["wpe"][: len(inputs)])
    backs = []
    for i in range(settings.n_layer):
        x_TD, back = block(w, f"layer{i}", x_TD, settings.n_head)
        backs.append(back)
    logits_TV, head_back = linear(w["lm_head"], x_TD)

    def backward(dlogits_TV: Array) -> Weights:
        dw = {name: np.zeros_like(w[name]) for name in ("wte", "wpe")}
        dx_TD, dw["lm_head"] = head_back(dlogits_TV)
        for back in reversed(backs):
            dx_TD, dblock = back(dx_TD)
            dw |= dblock
        dx_TD = norm_back(dx_TD)
        np.add.at(dw["wte"], inputs, dx_TD)  # a token may stand at several positions
        dw["wpe"][: len(inputs)] = dx_TD
        return dw

    return logits_TV, backward


def loss_and_gradients(w: Weights, tokens: list[int], settings: Settings) -> tuple[float, Weights]:
    """The mean of -log softmax(logits)[target], in nats; dlogits = (softmax - one-hot) / T."""
    inputs, targets, T = tokens[:-1], tokens[1:], len(tokens) - 1
    logits_TV, backward = forward(w, inputs, settings)
    shifted_TV = logits_TV - logits_TV.max(axis=-1, keepdims=True)
    nats_T = np.log(np.exp(shifted_TV).sum(axis=-1)) - shifted_TV[np.arange(T), targets]
    dlogits_TV = softmax(logits_TV)
    dlogits_TV[np.arange(T), targets] -= 1.0
    return float(nats_T.mean()), backward(dlogits_TV / T)


class GPT:
    """The weights, how they are trained, and how they are read."""

    def __init__(self, numbers: Numbers, settings: Settings):
        self.settings = settings
        self.weights: Weights = {name: np.array(rows) for name, rows in numbers.items()}

    def train(self, windows: Sequence[list[int]]) -> Iterator[float]:
        """One update of Adam (Kingma and Ba 2014, arXiv:1412.6980) a window; yields each loss."""
        means = {name: np.zeros_like(w) for name, w in self.weights.items()}
        squares = {name: np.zeros_like(w) for name, w in self.weights.items()}
        for step, tokens in enumerate(windows):
            loss, gradients = loss_and_gradients(self.weights, tokens, self.settings)
            rate = self.settings.learning_rate * (1 - step / len(windows))
            for name, gradient in gradients.items():
                means[name] = 0.85 * means[name] + 0.15 * gradient
                squares[name] = 0.99 * squares[name] + 0.01 * gradient**2
                mean = means[name] / (1 - 0.85 ** (step + 1))
                square = squares[name] / (1 - 0.99 ** (step + 1))
                self.weights[name] -= rate * mean / (square**0.5 + 1e-8)
            yield loss

    def reader(self) -> Reader:
        """A function that is told a document, token by token, and scores each time what follows."""
        tokens: list[int] = []

        def read(token: int) -> list[float]:
            tokens.append(token)
            logits_TV, _ = forward(self.weights, tokens, self.settings)
            return logits_TV[-1].tolist()

        return read
