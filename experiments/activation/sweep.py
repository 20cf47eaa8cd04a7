"""Does the MLP's activation matter: squared ReLU, GELU or SwiGLU, each at its own rate?

scripts/run python -m nanogpt_jax.sweep --sweep=experiments/activation/sweep.py --parallel=2
"""

from nanogpt_jax.sweep import Sweep, chain, choice, product, zip_


def get_sweep() -> Sweep:
    """minigpt with each; a gate is a third matrix, so SwiGLU is two thirds as wide."""
    return Sweep(
        config="configs/minigpt.py",
        space=product(
            chain(
                choice("model.activation", "relu2", "gelu"),
                zip_(choice("model.activation", "swiglu"), choice("model.d_hidden", 341)),
            ),
            choice("optimizer.learning_rate", 0.012, 0.024, 0.048, 0.096),
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
