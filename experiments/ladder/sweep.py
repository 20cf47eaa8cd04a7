"""What do one head, more heads and depth each add? The four rungs, each at its own rate.

scripts/run python -m nanogpt_jax.sweep --sweep=experiments/ladder/sweep.py --parallel=2
"""

from nanogpt_jax.sweep import Sweep, chain, choice, product, zip_


def get_sweep() -> Sweep:
    """minigpt's data, width and budget; the last rung is minigpt."""
    return Sweep(
        config="configs/compare.py",
        space=product(
            chain(
                choice("model.name", "embedding", "single_head", "multi_head"),
                zip_(
                    choice("model.name", "gpt"),
                    choice("model.n_kv_head", 2),
                    choice("model.tied_head", True),
                    choice("optimizer.embedding_ratio", 0.3),
                ),
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
