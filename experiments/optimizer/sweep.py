"""AdamW or Muon: which ends lower, and which minds a wrong rate less?

scripts/run python -m nanogpt_jax.sweep --sweep=experiments/optimizer/sweep.py --parallel=2
"""

from nanogpt_jax.sweep import Sweep, chain, choice, product


def get_sweep() -> Sweep:
    """minigpt with each, over five rates that double."""
    return Sweep(
        config="configs/minigpt.py",
        space=chain(
            product(
                choice("optimizer.name", "adamw"),
                choice("optimizer.learning_rate", 0.001, 0.002, 0.004, 0.008, 0.016),
            ),
            product(
                choice("optimizer.name", "muon"),
                choice("optimizer.learning_rate", 0.006, 0.012, 0.024, 0.048, 0.096),
            ),
        ),
        fixed={
            "train.batch_size": 16,
            "train.accumulate_steps": 2,
            "log.every_steps": 50,
            "eval.every_steps": 500,
        },
        objective="val/excess_nats",
        tuned=("optimizer.learning_rate",),
        fresh_seeds=(1, 2, 3),
    )
