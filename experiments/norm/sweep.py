"""RMSNorm with norms of queries and keys, or LayerNorm without: which learns better?

scripts/run python -m nanogpt_jax.sweep --sweep=experiments/norm/sweep.py --parallel=2
"""

from nanogpt_jax.sweep import Sweep, choice, product, zip_


def get_sweep() -> Sweep:
    """minigpt as it is, and with GPT-2's norm: centred, with a gain, none inside attention."""
    return Sweep(
        config="configs/minigpt.py",
        space=product(
            zip_(
                choice("model.norm", "rms", "layer"),
                choice("model.norm_gain", False, True),
                choice("model.qk_norm", "after_rope", "off"),
            ),
            choice("optimizer.learning_rate", 0.003, 0.006, 0.012, 0.024, 0.048, 0.096),
        ),
        fixed={"log.every_steps": 50, "eval.every_steps": 500},
        objective="val/excess_nats",
        tuned=("optimizer.learning_rate",),
        fresh_seeds=(1, 2, 3),
    )
