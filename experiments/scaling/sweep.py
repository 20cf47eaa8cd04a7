"""Does loss follow a law in parameters and data, and does it find the entropy that is known?

scripts/run python -m nanogpt_jax.sweep --sweep=experiments/scaling/sweep.py --parallel=2
scripts/run python -m nanogpt_jax.scaling fit --runs=checkpoints/scaling/trials --json=FIT
"""

from nanogpt_jax.sweep import Sweep, choice, product, zip_


def get_sweep() -> Sweep:
    """0.1 to 3.4 million parameters, 1 to 4 million tokens; ten million are held out."""
    return Sweep(
        config="configs/minigpt.py",
        space=product(
            zip_(
                choice("model.d_model", 48, 96, 128, 224),
                choice("model.n_layer", 1, 2, 4, 5),
                choice("model.n_head", 3, 6, 8, 14),
            ),
            choice("train.steps", 250, 500, 1000),
        ),
        fixed={"model.n_kv_head": 1, "log.every_steps": 50, "eval.every_steps": 0},
        objective="val/excess_nats",
    )
