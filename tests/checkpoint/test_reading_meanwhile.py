"""Who reads while a trainer saves and prunes finds a whole checkpoint every time."""

import threading

import jax

from nanogpt_jax.checkpoint import choose, list_steps, newest_full_step, read_sidecars, verify


def test_every_choice_meanwhile_is_whole(open_run, save, state_of, tmp_path):
    state, ended, told = state_of(1), threading.Event(), []
    with open_run(keep=1) as checkpoints:
        save(checkpoints, 1, state=state)

    def train():
        with open_run(keep=1) as checkpoints:
            for step in range(2, 14):
                save(checkpoints, step, state=state, metrics={"val/loss": 20.0 - step})
        ended.set()

    trainer = threading.Thread(target=train)
    trainer.start()
    while not ended.is_set():
        told.append(choose(tmp_path, "last"))
        told.append(choose(tmp_path, "last", full=True))
        newest = newest_full_step(tmp_path)
        assert newest is not None
        told.append(newest)
        read_sidecars(tmp_path)
    trainer.join()
    assert told == sorted(told) and len({*told}) > 2 and len(told) > 30
    assert list_steps(tmp_path) == [13] and choose(tmp_path, "best") == 13


def test_a_save_that_was_read_before_it_was_replaced_is_verified_as_what_it_is_now(
    open_run, save, state_of, bits, tmp_path
):
    for step in (5, 6):
        with open_run() as checkpoints:
            save(checkpoints, 5, state=state_of(step))
        verify(tmp_path, 5)
    restored, _ = open_run().restore(5, jax.eval_shape(lambda: state_of(0)))
    assert bits(restored) == bits(state_of(6))
