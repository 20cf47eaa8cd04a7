"""Which saves are kept: the rules on tables, on random histories, and on a disk."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.checkpoint import Sidecar, list_steps, milestone_steps
from nanogpt_jax.checkpoint.environment import Environment
from nanogpt_jax.checkpoint.retention import best, prunable
from nanogpt_jax.interface import ModelShape

PLAIN = Sidecar(
    step=0,
    kind="periodic",
    interrupted=False,
    created="2026-11-20T00:00:00Z",
    tokens_seen=0,
    metrics={},
    items=("params", "opt_state", "rest", "data"),
    model=ModelShape("gpt", 65, 2, 2, 2, 8, 16),
    tokenizer_sha256="",
    environment=Environment("cpu", 1, 2, 0, "", "0.10.2", "0.10.2", False),
)


def saved(step, loss=None, **changes):
    metrics = {} if loss is None else {"val/loss": loss}
    return dataclasses.replace(PLAIN, step=step, metrics=metrics, **changes)


@pytest.mark.parametrize(
    ("history", "milestones", "gone"),
    [
        ([], (), []),
        ([saved(1), saved(2)], (), []),
        ([saved(1), saved(2), saved(3), saved(4)], (), [1, 2]),
        ([saved(1), saved(2), saved(3), saved(4)], (1,), [2]),
        ([saved(1, 0.5), saved(2, 0.7), saved(3, 0.6)], (), []),
        ([saved(1, 0.5), saved(2, 0.4), saved(3, 0.6)], (), [1]),
        ([saved(1, kind="milestone"), saved(2), saved(3), saved(4)], (), [2]),
        ([saved(1, kind="final"), saved(2), saved(3), saved(4)], (), [2]),
        ([saved(1, interrupted=True), saved(2), saved(3), saved(4)], (), [2]),
        ([saved(1, 0.5, kind="milestone"), saved(2, 0.6), saved(3), saved(4)], (), [2]),
    ],
)
def test_keeping_two_prunes_exactly(history, milestones, gone):
    assert prunable(history, 2, milestones) == gone


def newest_full(history):
    return max((one.step for one in history if one.full), default=None)


saves = st.builds(
    saved,
    st.integers(0, 40),
    loss=st.none() | st.floats(0, 5),
    kind=st.sampled_from(["periodic", "periodic", "milestone", "final"]),
    interrupted=st.sampled_from([False, False, True]),
)


@given(
    st.lists(saves, unique_by=lambda one: one.step).map(
        lambda history: sorted(history, key=lambda one: one.step)
    ),
    st.integers(0, 4),
    st.sets(st.integers(0, 40), max_size=5),
)
def test_in_any_history_the_pinned_and_the_newest_survive_and_nothing_else(
    history, keep, milestones
):
    kept = []
    for save in history:
        kept.append(save)
        gone = prunable(kept, keep, milestones)
        kept = [one for one in kept if one.step not in gone]
        assert prunable(kept, keep, milestones) == []

    steps = {one.step for one in kept}
    ordinary = [one.step for one in history if one.kind == "periodic" and not one.interrupted]
    assert steps >= {one.step for one in history} - set(ordinary)
    assert steps >= set(ordinary) & milestones
    assert steps >= set(ordinary[len(ordinary) - keep :] if keep else ())
    assert best(kept) == best(history)
    assert newest_full(kept) == newest_full(history)
    unpinned = steps & set(ordinary) - milestones - {best(kept), newest_full(kept)}
    assert len(unpinned) <= keep


def test_the_newest_full_save_stays_though_none_is_to_be_kept():
    assert prunable([saved(1), saved(2), saved(3, kind="milestone", items=("params",))], 0, ()) == [
        1
    ]


def test_the_best_is_the_lowest_loss_that_was_measured():
    assert best([saved(1), saved(2, 3.0), saved(3, 2.0), saved(4)]) == 3
    assert best([saved(1)]) is None


@given(st.integers(0, 10**7), st.integers(0, 40))
def test_milestones_run_from_zero_to_the_end_and_are_about_as_many_as_asked(total, count):
    steps = milestone_steps(total, count)
    assert list(steps) == sorted(set(steps))
    assert len(steps) <= max(count, 2)
    if count:
        assert steps[0] == 0 and steps[-1] == total


def test_milestones_are_dense_at_first_and_then_grow_by_a_factor():
    steps = milestone_steps(100_000, 24)
    assert steps[:4] == (0, 1, 2, 3) and len(steps) >= 22
    assert all(1.5 < later / earlier < 1.9 for earlier, later in itertools.pairwise(steps[8:]))
    assert milestone_steps(100_000, 0) == ()
    assert milestone_steps(1, 24) == (0, 1)


def test_on_disk_the_newest_the_pinned_and_the_best_remain(open_run, save, tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0, 6: 0.5, 7: 2.0}
    remaining = {4: [1, 2, 3, 4], 5: [1, 2, 4, 5], 7: [1, 6, 7]}
    for step, loss in losses.items():  # a process for each, as it were: no memory in between
        with open_run(keep=2, milestone_steps={1}) as checkpoints:
            save(checkpoints, step, metrics={"val/loss": loss})
        if step in (5, 7):
            assert list_steps(tmp_path) == remaining[step]
