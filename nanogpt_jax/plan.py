"""What a config would cost before it is trained: parameters, FLOPs, memory, time, money.

    python -m nanogpt_jax.plan --config=configs/minigpt.py [--chip=NAME] [--chips=N]
        [--mfu=0.4] [--price=DOLLARS] [--ceiling=FILE] [--config.SECTION.FIELD=VALUE ...]
        [--tokens_per_parameter=X | --flops=X | --seconds=X]

Formulas on shapes: nothing is trained or allocated. docs/planning.md says how far they hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from nanogpt_jax import cli, experiment
from nanogpt_jax.bench.machine import measure_rates, read_rates
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.memory import Memory
from nanogpt_jax.planning import (
    Chip,
    Shapes,
    find_chip,
    memory_of,
    mesh_of,
    seconds_here,
    shapes_of,
    steps_within,
)
from nanogpt_jax.registry import non_negative, positive

HERE = "here"


def main(
    *,
    config: Annotated[str, "config file, PATH[:ARGUMENT]; see configs/"],
    chip: Annotated[str, "here, this machine's cores, or one: NVIDIA H100, TPU v5e, ..."] = HERE,
    chips: Annotated[int, "how many of them", positive] = 1,
    mfu: Annotated[float, "share of a chip's peak that training reaches", positive] = 0.4,
    price: Annotated[float, "dollars an hour of one chip; 0 = no cost", non_negative] = 0.0,
    ceiling: Annotated[str, "FILE of `bench ceiling --json=FILE`; none: measured now"] = "",
    tokens_per_parameter: Annotated[float, "budget instead of train.steps", non_negative] = 0.0,
    flops: Annotated[float, "budget likewise, of all updates", non_negative] = 0.0,
    seconds: Annotated[float, "budget likewise, of the time of all updates", non_negative] = 0.0,
    overrides: cli.Overrides,
) -> None:
    """Prints a table."""
    cli.quiet()
    horizons = {"tokens_per_parameter": tokens_per_parameter, "flops": flops, "seconds": seconds}
    if len(given := [name for name, value in horizons.items() if value]) > 1:
        names = ", ".join(f"--{name}" for name in given)
        raise ConfigError(f"{names}: they contradict each other; one budget is required")
    machine = None if chip == HERE else find_chip(chip)
    shapes = shapes_of(experiment.resolve(experiment.load_config(config), overrides))
    mesh = mesh_of(shapes.plan, chips)
    if machine is None:
        if chips > 1:
            raise ConfigError(f"--chips={chips} with --chip=here: a chip's name is required")
        rates = read_rates(Path(ceiling)) if ceiling else measure_rates()
        step_seconds = seconds_here(shapes, rates)
    else:
        step_seconds = shapes.flops_per_update / (machine.flops * chips * mfu)
    steps = steps_within(shapes, horizons, step_seconds)
    needed = memory_of(shapes, mesh, on_cpu=machine is None)
    print(render(config, shapes, chip, chips, machine, needed, step_seconds, steps, price))


def render(
    config: str,
    shapes: Shapes,
    chip: str,
    chips: int,
    machine: Chip | None,
    needed: Memory | None,
    step_seconds: float,
    steps: int,
    price: float,
) -> str:
    """The table."""
    plan, count = shapes.plan, shapes.parameters
    tokens = steps * plan.tokens_per_step
    total_seconds = steps * step_seconds
    where = "this machine" if machine is None else f"{chips} x {machine.name}"
    rate = f"{_short(tokens / total_seconds)} tokens a second"
    budget = f"{steps * shapes.flops_per_update:.2e} in all"
    lines = [
        ("config", f"{config} on {where}"),
        ("parameters", f"{count:,} ({shapes.vocab_size:,} tokens in the vocabulary)"),
        ("updates", f"{steps:,} of {plan.tokens_per_step:,} tokens (--config.train.steps={steps})"),
        ("tokens", f"{_short(tokens)}, {tokens / count:.1f} a parameter"),
        ("FLOPs", f"{_short(shapes.flops_per_token)} a token, {budget}"),
        ("memory", _memory(needed, machine)),
        ("an update", _time(step_seconds)),
        ("in all", f"{_time(total_seconds)}, {rate}"),
    ]
    if price:
        dollars = total_seconds / 3600 * chips * price
        lines.append(("cost", f"${dollars:,.2f} at ${price:g} an hour of a chip"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def _memory(needed: Memory | None, machine: Chip | None) -> str:
    if needed is None:
        return "no formula for this model"
    parts = ", ".join(f"{name} {_size(size)}" for name, size in needed._asdict().items())
    told = f"{_size(needed.total)} a device: {parts}"
    if machine is not None and machine.memory_bytes is not None:
        fits = "fits" if needed.total < machine.memory_bytes else "DOES NOT FIT"
        told += f"; {fits} in {_size(machine.memory_bytes)}"
    return told


def _short(value: float) -> str:
    for size, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}"


def _size(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


if __name__ == "__main__":
    cli.run(main, __doc__)
