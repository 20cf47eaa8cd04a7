"""What every head looked at, as the reference API writes it; its size is known beforehand.

For the inspection API, which has more to ask and more ways to answer, see payload.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from nanogpt_jax import inspection
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.serve.plans import Prompt

# A row of weights sums to 1 within T half units of the last of them.
DECIMALS = 6
_WEIGHT_BYTES = len("0.123456,")
_EXPERT_BYTES = len("1234567,")
_LIST_BYTES = len("[],")
_HEAD_BYTES = len('{"layer":1234,"head":1234,"experts":,"weights":},')


class Heads:
    """Attention, and the routing of a mixture of experts, over tokens that fit into the context.

    Nothing is computed before `write`, which gives at most `most_bytes`.
    """

    def __init__(self, run: Loaded, tokens: Sequence[int]):
        self._prompt = Prompt(run, tokens)
        self._attends = self._prompt.site_shape("attention") is not None
        self._routes = self._prompt.site_shape("gates") is not None
        L, H, T = run.shape.n_layer, run.shape.n_head, len(tokens)
        self._active = getattr(run.plan.model, "n_active", 0) if self._routes else 0
        matrix_bytes = T * (_WEIGHT_BYTES * T + _LIST_BYTES)
        routes_bytes = T * ((_WEIGHT_BYTES + _EXPERT_BYTES) * self._active + 2 * _LIST_BYTES)
        self.most_bytes = 2 * _HEAD_BYTES  # the names around both lists
        self.most_bytes += L * H * (matrix_bytes + _HEAD_BYTES) if self._attends else 0
        self.most_bytes += L * (routes_bytes + _HEAD_BYTES) if self._routes else 0

    def write(self) -> bytes:
        """The keys `attention` and, of a mixture of experts, `routing`, with their values."""
        pieces = [f'"attention":[{",".join(self._heads())}]']
        if self._routes:
            pieces.append(f'"routing":[{",".join(self._layers())}]')
        return ",".join(pieces).encode()

    def _heads(self) -> Iterator[str]:
        if not self._attends:
            return
        found = self._prompt.ask(inspection.attention, self._prompt.run.params)
        for layer, heads_HTS in enumerate(found.probabilities_LHTS):
            for head, weights_TS in enumerate(heads_HTS):
                yield f'{{"layer":{layer},"head":{head},"weights":{_dump(weights_TS)}}}'

    def _layers(self) -> Iterator[str]:
        found = self._prompt.ask(inspection.routing, self._prompt.run.params)
        experts_LTK = np.argsort(-found.gates_LTE, axis=-1, kind="stable")[..., : self._active]
        weights_LTK = np.take_along_axis(found.gates_LTE, experts_LTK, axis=-1)
        for layer, (experts_TK, weights_TK) in enumerate(
            zip(experts_LTK, weights_LTK, strict=True)
        ):
            experts, weights = _dump(experts_TK), _dump(weights_TK)
            yield f'{{"layer":{layer},"experts":{experts},"weights":{weights}}}'


def _dump(matrix: np.ndarray) -> str:
    """Lists of numbers; a row at a time, so that other threads get their turn in between."""
    values = matrix if matrix.dtype.kind == "i" else np.round(matrix.astype(np.float64), DECIMALS)
    return f"[{','.join(_dump_row(row) for row in values)}]"


def _dump_row(row: np.ndarray) -> str:
    return json.dumps(row.tolist(), separators=(",", ":"), allow_nan=False)
