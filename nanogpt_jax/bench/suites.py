"""The contests: who does which work, beside whom, and what is to be reached.

Work is named here and done in ours.py, peers/ and the modules beside them; verdict.py judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from nanogpt_jax.bench import machine
from nanogpt_jax.bench.contest import Contestant
from nanogpt_jax.bench.rounds import Estimate

OURS, TORCH = "nanogpt_jax.bench.ours", "nanogpt_jax.bench.peers.nanogpt"
FEEDING, GROWTH = "nanogpt_jax.bench.feeding", "nanogpt_jax.bench.growth"
FORECAST = "nanogpt_jax.bench.forecast"
MAIN_JOB = "nanogpt_jax.bench.main_job"
MICROGPT = "nanogpt_jax.microgpt.rounds"  # an island: named, never imported
SMALL = {"n_layer": 4, "n_head": 4, "d_model": 128, "length": 64, "batch": 12, "vocab": 65}
LARGE = {"n_layer": 6, "n_head": 6, "d_model": 384, "length": 256, "batch": 16, "vocab": 65}
HEADS = {"batch": 16, "heads": 6, "length": 256, "channels": 64}
WHOLE_RUN = {"steps": 30}


class Limit(NamedTuple):
    """What an estimate is to keep to; it does when its whole interval does."""

    sense: Literal["at least", "at most"]
    value: float

    def holds(self, found: Estimate) -> bool:
        """Whether the interval lies on the right side, the limit itself included."""
        return found.low >= self.value if self.sense == "at least" else found.high <= self.value


class Measure(NamedTuple):
    """A number that each round of ours finds under `name`, and what its mean is to keep to."""

    name: str
    unit: str = ""
    limit: Limit | None = None


class Contest(NamedTuple):
    """A row of work: rates of its contestants, and measures of ours.

    `amount` of `unit` is done in a round, unless the round itself says its `amount`; without a
    unit no rate is told. `ours` is to be `target` times as fast as `rival`.
    """

    row: str
    unit: str
    contestants: Sequence[Contestant]
    amount: float = 0.0
    ours: str = "ours"
    rival: str = ""
    target: float | None = None
    measures: Sequence[Measure] = ()


def ceiling(torch: bool) -> list[Contest]:
    """Square products, what the machine gives to whoever multiplies, and the planner's rates."""
    found = [
        Contest(row, unit, [Contestant("ours", f"{OURS}:{function}", work)], amount / 1e9)
        for row, unit, function, work, amount in machine.ROWS
    ]
    for dtype in ("float32", "bfloat16"):
        work = {"size": 2048, "repeats": 4, "dtype": dtype}
        flops, row = 2 * 2048**3 * 4, f"matmul 2048 {dtype}"
        found.append(Contest(row, "GFLOP", _sides("matmul", work, torch), flops / 1e9))
    return found


def train(torch: bool) -> list[Contest]:
    """Whole updates of GPT-2's block, the loss read at every one."""
    targets = {("4x128", "float32"): 1.1, ("6x384", "float32"): 1.0, ("6x384", "bfloat16"): 0.7}
    found = []
    for (name, dtype), target in targets.items():
        sizes, steps = (SMALL, 20) if name == "4x128" else (LARGE, 1)
        work = {**sizes, "steps": steps, "dtype": dtype}
        sides = [Contestant("ours", f"{OURS}:train", work)]
        if torch:
            for mode, compiled in (("torch eager", False), ("torch.compile", True)):
                peer = {**work, "compiled": compiled}
                sides.append(Contestant(mode, f"{TORCH}:train", peer))
        tokens = steps * sizes["batch"] * sizes["length"]
        row = f"train {name} T{sizes['length']} B{sizes['batch']} {dtype}"
        found.append(Contest(row, "token", sides, tokens, rival="torch.compile", target=target))
    return found


def attention(torch: bool) -> list[Contest]:
    """Causal attention alone, forward and backward."""
    work = {**HEADS, "repeats": 4, "dtype": "float32"}
    # Two products forward and five backward, half of them masked.
    flops = 7 * HEADS["batch"] * HEADS["heads"] * HEADS["length"] ** 2 * HEADS["channels"] * 4
    row, sides = "attention B16 H6 T256 C64 float32", _sides("attention", work, torch)
    return [Contest(row, "GFLOP", sides, flops / 1e9, rival="torch", target=1.0)]


def _sides(function: str, work: Mapping[str, Any], torch: bool) -> list[Contestant]:
    sides = [Contestant("ours", f"{OURS}:{function}", work)]
    return [*sides, Contestant("torch", f"{TORCH}:{function}", work)] if torch else sides


def microgpt() -> list[Contest]:
    """The thousand updates of microgpt in float64, beside its algorithm on single numbers."""
    sides = [
        Contestant("ours", f"{MICROGPT}:train", {"engine": "jax_engine", "steps": 1000}),
        Contestant("scalar", f"{MICROGPT}:train", {"engine": "scalar", "steps": 20}),
    ]
    within = Measure("seconds", "s", Limit("at most", 0.15))
    row = "microgpt, 1000 steps, float64"
    return [Contest(row, "step", sides, rival="scalar", target=2000.0, measures=[within])]


def startup() -> list[Contest]:
    """The main job: seconds from the start of the process to its first step, and its programs."""
    start = Measure("seconds", "s", Limit("at most", 8.0))
    programs = [Measure(f"{of}_programs", limit=Limit("at most", 1)) for of in ("train", "eval")]
    return [
        _alone("minigpt, start to first step", f"{MAIN_JOB}:first_step", {}, start),
        _alone("minigpt, 30 steps", f"{MAIN_JOB}:whole_run", WHOLE_RUN, *programs),
    ]


def data() -> list[Contest]:
    """How long the loop waits for batches, and its rate beside that of one batch over and over."""
    waited = Measure("waited_share", limit=Limit("at most", 0.02))
    found = []
    for config, steps, tokens in (("minigpt", 10, 32 * 128), ("4x128", 100, 12 * 64)):
        sides = [
            Contestant(name, f"{FEEDING}:train", {"config": config, "steps": steps, "fed": fed})
            for name, fed in (("ours", True), ("one batch", False))
        ]
        row, amount = f"batches of {config}", steps * tokens
        found.append(Contest(row, "token", sides, amount, rival="one batch", measures=[waited]))
    return found


def growth() -> list[Contest]:
    """What must not grow: time per token with the batch, memory with the context, or with a run."""
    tokens, sides = 0, []
    for batch in (64, 16, 4, 1):
        work = {**SMALL, "batch": batch, "steps": 256 // batch, "dtype": "float32"}
        tokens = 256 * SMALL["length"]  # the same for each
        sides.append(Contestant(f"batch {batch}", f"{OURS}:train", work))
    # 10 % more time for a token is a rate of 1 / 1.1.
    flat = {"ours": "batch 64", "rival": "batch 1", "target": 1 / 1.1}
    # All scores at once are T², one chunk of queries T. At 4096 the loops over chunks (see
    # `attend_causally`) are still becoming four; beyond it a copy of all scores cannot hide.
    memory = [Measure(f"mib_at_{length}", "MiB") for length in (1024, 2048, 4096, 8192)]
    memory.append(Measure("exponent_at_4096", limit=Limit("at most", 1.9)))
    memory.append(Measure("exponent_at_8192", limit=Limit("at most", 1.5)))
    peak = Measure("peak_gib", "GiB", Limit("at most", 1.2))
    return [
        Contest("train 4x128 T64 float32", "token", sides, tokens, **flat),
        _alone("attention B1 H6 C64, memory", f"{GROWTH}:attention_memory", {}, *memory),
        _alone("minigpt, 30 steps", f"{MAIN_JOB}:whole_run", WHOLE_RUN, peak),
    ]


def plan() -> list[Contest]:
    """How far the planner's time of an update is from the one that it takes."""
    close = Measure("error", limit=Limit("at most", 0.25))
    told = [Measure(f"{name}_ms", "ms") for name in ("predicted", "measured")]
    wider = {"model.n_layer": "6", "model.d_model": "384", "model.n_head": "6"}
    wider |= {"train.batch_size": "8", "train.accumulate_steps": "1", "optimizer.name": "adamw"}
    found = []
    for name, config, changes in (
        ("tiny", "tiny", {}),
        ("minigpt", "minigpt", {}),
        ("minigpt, 6x384", "minigpt", wider),
    ):
        work = {"config": f"configs/{config}.py", "changes": changes}
        found.append(_alone(f"plan of {name}", f"{FORECAST}:error", work, close, *told))
    return found


def _alone(row: str, place: str, work: Mapping[str, Any], *measures: Measure) -> Contest:
    return Contest(row, "", [Contestant("ours", place, work)], measures=measures)


BESIDE_PEERS: dict[str, Callable[[bool], list[Contest]]] = {
    "ceiling": ceiling,
    "train": train,
    "attention": attention,
}
ALONE: dict[str, Callable[[], list[Contest]]] = {
    "microgpt": microgpt,
    "startup": startup,
    "data": data,
    "growth": growth,
    "plan": plan,
}
