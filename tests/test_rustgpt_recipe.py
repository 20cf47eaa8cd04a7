"""RustGPT's recipe: its texts, its rows, its two phases, its clipping and how it is talked to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nanogpt_jax import checkpoint, experiment
from nanogpt_jax.chat import PlainChat, open_chat
from nanogpt_jax.data.sources.rustgpt_texts import DIALOGUES, EXCHANGES, FACTS
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import assemble, load_config, load_phases, resolve
from nanogpt_jax.generate import Generator
from nanogpt_jax.losses import row_losses
from nanogpt_jax.phases import resolve_phases, train_phases
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.start import Start
from nanogpt_jax.step import create_state, train_step
from nanogpt_jax.tokenization.word import END
from tests.fakes import fake_batch, fake_model, hyper_of, recipe_of
from tests.runs import steps_of

# Half the time to compile, and the same mathematics.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CONFIG = str(Path(__file__).resolve().parents[1] / "configs/rustgpt.py")
RECIPE, PHASES = load_config(CONFIG), load_phases(CONFIG)
GREEDY = Sampling(temperature=0.0)
TINY = {
    "model.n_layer": 1,
    "model.d_model": 4,
    "model.d_hidden": 4,
    "train.steps": 3,
    "eval.every_steps": 0,
    "eval.batches": 2,
    "log.every_steps": 1,
    "data.prefetch": 0,
}


def overrides(**changes: Any) -> list[tuple[str, str]]:
    """`TINY` as assignments, `changes` with __ for the dot."""
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    return [(name, str(value)) for name, value in (TINY | changed).items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the runs of these tests."""
    return tmp_path_factory.mktemp("rustgpt")


@pytest.fixture(scope="module")
def phased(folder: Path) -> tuple[Path, str]:
    """Both phases of a tiny recipe, three updates each, and what was printed."""
    return folder / "run", train_phases(RECIPE, PHASES, folder / "run", overrides())


def test_the_texts_are_short_end_with_the_marker_and_differ():
    assert len(FACTS) >= 25 and len(DIALOGUES) >= 50
    texts = FACTS + DIALOGUES
    assert len(set(texts)) == len(texts) and len(dict(EXCHANGES)) == len(DIALOGUES)
    for text in texts:
        assert text.endswith(f". {END}") and text.count(END) == 1 and len(text.split()) <= 29
    for (question, answer), text in zip(EXCHANGES, DIALOGUES, strict=True):
        assert question.endswith("?") and text == f"User: {question} Assistant: {answer} {END}"


def test_a_batch_is_a_document_in_file_order_without_its_last_and_its_first_token(folder: Path):
    plan = resolve_phases(RECIPE, PHASES, folder, overrides(init__optimizer=False))["facts"]
    run = assemble(plan, folder / "unused", ())
    with run.batches as batches:
        seen = [next(batches) for _ in range(len(FACTS) + 1)]
    end = int(run.tokenizer.encode(END)[0])
    for text, batch in zip((*FACTS, FACTS[0]), seen, strict=True):
        ids, (weights,) = run.tokenizer.encode(text), batch.weights_BT
        count = len(ids) - 1
        assert batch.inputs_BT[0, :count].tolist() == ids[:-1].tolist()
        assert batch.targets_BT[0, :count].tolist() == ids[1:].tolist()
        assert weights.tolist() == [1.0] * count + [0.0] * (len(weights) - count)
        assert batch.targets_BT[0, count - 1] == end
        assert run.tokenizer.bos_id not in batch.inputs_BT[0, :count]
    assert all(len(batch.inputs_BT) == 1 for batch in seen)


def test_one_vocabulary_covers_both_phases(phased: tuple[Path, str]):
    runs = [experiment.load(phased[0] / name) for name in PHASES]
    assert runs[0].tokenizer.sha256 == runs[1].tokenizer.sha256
    strict = dataclasses.replace(runs[0].plan.tokenizer, unknown="error")
    assert strict.unknown != runs[0].plan.tokenizer.unknown == "drop"
    for text in FACTS + DIALOGUES:
        assert runs[0].tokenizer.decode(runs[0].tokenizer.encode(text)).count(" ") > 5
    spoken = {word for text in DIALOGUES for word in text.split() if word.isalpha()}
    assert spoken <= {token.decode() for token in runs[0].tokenizer.token_bytes}
    written = {word for text in FACTS for word in text.split() if word.isalpha()}
    assert spoken - written


@pytest.mark.slow
def test_the_second_phase_starts_from_the_first_with_its_optimizer(folder: Path):
    phases = {"one": {}, "two": {"train.steps": 0, "init.optimizer": True}}
    own = [(name, text) for name, text in overrides() if name != "train.steps"]
    config = resolve(RECIPE, [("train.steps", "3")]).config
    train_phases(config, phases, folder / "handed", own)
    found = {}
    for name, step in (("one", 3), ("two", 0)):
        plan = resolve_phases(config, phases, folder / "handed", own)[name]
        run = assemble(plan, folder / "handed" / name, ())
        abstract = run.layout.abstract(run.create, run.hyper, run.key)
        found[name] = checkpoint.load_learned(folder / "handed" / name, step, abstract)
    one, two = found["one"], found["two"]
    assert all(np.array_equal(a, b) for a, b in pairs(one, two))
    counts = [leaf for leaf in jax.tree.leaves(two[1]) if leaf.ndim == 0]
    assert [int(count) for count in counts] == [3]
    moments = [leaf for leaf in jax.tree.leaves(two[1]) if leaf.ndim]
    assert moments and all(np.any(leaf) for leaf in moments[:3])


def pairs(one: Any, two: Any) -> Iterator[tuple[Any, Any]]:
    return zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)


def test_the_same_question_is_asked_before_and_after(phased: tuple[Path, str]):
    question, before, after = phased[1].splitlines()
    assert question == "User: How do mountains form?"
    assert before.startswith("before (facts, step 0): ") and after.startswith("after (dialogues): ")
    assert len(before) > len("before (facts, step 0): ")


@pytest.mark.slow
def test_the_same_command_goes_on_in_both_phases(phased: tuple[Path, str]):
    folder, said = phased
    assert [checkpoint.newest_full_step(folder / name) for name in PHASES] == [3, 3]
    again = train_phases(RECIPE, PHASES, folder, overrides(), Start(require_checkpoint=True))
    assert again == said
    train_phases(RECIPE, PHASES, folder, overrides(train__steps=4))
    assert [steps_of(folder / name, "train/loss") for name in PHASES] == [[1, 2, 3, 4]] * 2


def test_the_problems_of_all_phases_are_told_before_the_first_one_trains(tmp_path: Path):
    phases = {"facts": {}, "dialogues": {"train.steps": -1, "data.source": "bundled:dialogs"}}
    with pytest.raises(ConfigError) as told:
        train_phases(RECIPE, phases, tmp_path / "new", overrides()[:2])
    assert all(line.startswith("dialogues: ") for line in told.value.problems)
    assert "train.steps=-1" in str(told.value) and "did you mean 'dialogues'" in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_documents_without_bos_need_rows_of_their_own_and_a_corpus_that_is_kept():
    for form in ("stream", "packed", "chat"):
        with pytest.raises(ConfigError, match=r"data.bos=False with data.format='"):
            resolve(RECIPE, [("data.format", form)])
    with pytest.raises(ConfigError, match=r"tokenizer.source: .*did you mean 'facts'"):
        resolve(RECIPE, [("tokenizer.source", "bundled:fact")])


def test_the_variants_are_one_head_and_eight_with_a_projection():
    models = [load_config(f"{CONFIG}{suffix}").model for suffix in ("", ":multi_head")]
    assert [(m.n_head, m.output_projection) for m in models] == [(1, False), (8, True)]
    assert load_phases(f"{CONFIG}:multi_head") == PHASES
    with pytest.raises(ConfigError, match="no variant; known: single_head, multi_head"):
        load_config(f"{CONFIG}:two_heads")


def test_an_answer_ends_with_the_context_and_nothing_answers_nothing(phased: tuple[Path, str]):
    run = experiment.load(phased[0] / "facts", "0")
    generator = Generator(run.model, run.shape.max_seq_len)
    assert run.shape.max_seq_len == 80
    for count in (1, 8, 79, 80):
        answer = generator.answer(run.params, [2] * count, stop=())
        assert len(answer) == 80 - count
    assert generator.answer(run.params, [], stop=()) == []
    first = generator.answer(run.params, [2], stop=())[0]
    assert generator.answer(run.params, [2], stop={first}) == []


def test_a_chat_drops_unknown_words_and_forgets(phased: tuple[Path, str]):
    chat = open_chat(experiment.load(phased[0] / "dialogues"), "", 20, GREEDY)
    assert isinstance(chat, PlainChat)
    answers = ["".join(chat.answer(text)) for text in ("What is rain?", "What xyzzy is rain?")]
    assert answers[0] == answers[1] != "" and chat.messages == []
    assert len(answers[0].split()) <= 20
    assert "".join(chat.answer("rain " * 80)) == ""
    with pytest.raises(ConfigError, match="leave it out"):
        open_chat(experiment.load(phased[0] / "dialogues"), "Be brief.", 20, GREEDY)


@pytest.mark.parametrize("chunk_logits", [None, 3 * 7])
def test_the_gradient_of_a_rows_logits_is_capped_once_and_its_loss_is_as_it_was(
    chunk_logits: int | None,
):
    B, T, V = 3, 10, 7
    draw = np.random.default_rng(0)
    logits_BTV = jnp.asarray(draw.normal(size=(B, T, V)), jnp.float32)
    targets_BT = jnp.asarray(draw.integers(V, size=(B, T)))
    weights_BT = jnp.asarray(np.arange(B * T).reshape(B, T) % 4 > 0, jnp.float32)

    def means_B(logits: Any, cap: Any) -> Any:
        nats_B = row_losses(
            lambda x: x,
            logits,
            targets_BT,
            weights_BT,
            vocab_size=V,
            chunk_logits=chunk_logits,
            logit_gradient_cap=cap,
        )
        return nats_B / weights_BT.sum(1)

    def gradient(cap: Any) -> np.ndarray:
        return np.asarray(quick_jit(jax.grad(lambda x: means_B(x, cap).sum()))(logits_BTV))

    plain = gradient(None)
    norms_B = np.linalg.norm(plain.reshape(B, -1), axis=1)
    cap = float(np.median(norms_B))  # reached by one row, exceeded by another
    capped = plain * np.minimum(1, cap / norms_B)[:, None, None]
    assert not np.allclose(capped, plain, atol=1e-3)
    np.testing.assert_allclose(gradient(cap), capped, atol=1e-6)
    np.testing.assert_allclose(means_B(logits_BTV, cap), means_B(logits_BTV, None), rtol=1e-6)
    np.testing.assert_array_equal(gradient(1e6), plain)


def test_a_cap_on_the_logits_scales_the_whole_gradient_of_a_step():
    model, batch = fake_model(), fake_batch(rows=1)
    hyper = hyper_of("sgd") | {"clip_logits_norm": np.float32(0.05)}
    norms = []
    for clip in (False, True):
        recipe = recipe_of("sgd", model, clip_logits=clip)
        state = quick_jit(lambda key, recipe=recipe: create_state(recipe, hyper, key))(
            jax.random.key(0)
        )
        step = quick_jit(lambda *given, recipe=recipe: train_step(recipe, *given)[1].grad_norm)
        norms.append(float(step(state, batch, hyper)))
    assert norms[1] < 0.5 * norms[0]


@pytest.mark.slow
def test_the_real_recipe_knows_nine_dialogues_of_ten_by_heart_and_none_before(tmp_path: Path):
    train_phases(RECIPE, PHASES, tmp_path)
    known = {}
    for name, step in (("facts", "0"), ("dialogues", "last")):
        run = experiment.load(tmp_path / name, step)
        chat, words = open_chat(run, "", 80, GREEDY), run.tokenizer
        known[name] = sum(
            "".join(chat.answer(question)) == words.decode(words.encode(f"Assistant: {answer}"))
            for question, answer in EXCHANGES
        )
    assert known["facts"] == 0
    assert known["dialogues"] >= 0.9 * len(EXCHANGES)
