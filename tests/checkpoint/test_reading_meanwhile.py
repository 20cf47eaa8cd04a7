"""Who reads while a trainer saves and prunes finds a whole checkpoint every time."""

import itertools
import threading
import time

import jax

from nanogpt_jax.checkpoint import choose, list_steps, newest_full_step, read_sidecars, verify


def test_every_choice_meanwhile_is_whole(open_run, save, state_of, tmp_path):
    state, told, steps = state_of(1), [], []
    ended, left = threading.Event(), threading.Event()
    deadline = time.monotonic() + 120
    with open_run(keep=1) as checkpoints:
        save(checkpoints, 1, state=state)

    def train():
        try:
            with open_run(keep=1) as checkpoints:
                for step in itertools.count(2):
                    save(checkpoints, step, state=state, metrics={"val/loss": 20.0 - step})
                    steps.append(step)
                    seen = len({*told}) > 2 and len(told) > 30
                    if step >= 13 and (seen or left.is_set() or time.monotonic() > deadline):
                        break
        finally:
            ended.set()

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        while not ended.is_set():
            told.append(choose(tmp_path, "last"))
            told.append(choose(tmp_path, "last", full=True))
            newest = newest_full_step(tmp_path)
            assert newest is not None
            told.append(newest)
            read_sidecars(tmp_path)
    finally:
        left.set()
        trainer.join()
    assert told == sorted(told) and len({*told}) > 2 and len(told) > 30
    assert list_steps(tmp_path) == [steps[-1]] and choose(tmp_path, "best") == steps[-1] >= 13


def test_a_save_that_was_read_before_it_was_replaced_is_verified_as_what_it_is_now(
    open_run, save, state_of, bits, tmp_path
):
    for step in (5, 6):
        with open_run() as checkpoints:
            save(checkpoints, 5, state=state_of(step))
        verify(tmp_path, 5)
    restored, _ = open_run().restore(5, jax.eval_shape(lambda: state_of(0)))
    assert bits(restored) == bits(state_of(6))
