"""What do one head, more heads and depth each add? The four rungs, each at its own rate.

scripts/run python -m nanogpt_jax.sweep --sweep=experiments/ladder/sweep.py --parallel=2
"""

from nanogpt_jax.sweep import Sweep, chain, choice, product


def get_sweep() -> Sweep:
    """The variants of configs/compare.py, as changes of its last one, which is minigpt."""
    return Sweep(
        config="configs/minigpt.py",
        space=product(
            chain(
                product(
                    choice("model.name", "embedding", "single_head", "multi_head"),
                    choice("optimizer.embedding_ratio", 1.0),  # no table is tied
                ),
                choice("model.name", "gpt"),
            ),
            choice("optimizer.learning_rate", 0.006, 0.012, 0.024, 0.048),
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
