"""The truth from outside: transformers' own classes with the same weights do the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from nanogpt_jax.errors import DataError
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import Batch
from nanogpt_jax.interop import open_pretrained
from nanogpt_jax.interop.weights import to_params, to_tensors
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.step import create_state, loss_sums, train_step
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.chat import render
from tests.fakes import hyper_of, recipe_of
from tests.interop.cases import CASES, Case, Made, assert_equal, learn, logits_of, make, write

pytestmark = pytest.mark.parity

B, T = 2, 12
MESSAGES = [("system", "Be brief."), ("user", "Where is\n it?"), ("assistant", "In the box.")]


@pytest.fixture(scope="module", autouse=True)
def torch() -> Iterator[Any]:
    found = pytest.importorskip("torch")
    threads = found.get_num_threads()
    found.set_num_threads(1)  # tiny matrices: more threads only wait for each other
    yield found
    found.set_num_threads(threads)


@pytest.fixture(scope="module")
def transformers(torch: Any) -> Any:
    found = pytest.importorskip("transformers")
    found.logging.disable_progress_bar()
    return found


def theirs_of(transformers: Any, made: Made, vocab_size: int) -> Any:
    """A model of the class, of its own random weights, from what config.json would say."""
    settings = made.family.describe(made.config, vocab_size) | {
        name: None for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    config = transformers.AutoConfig.for_model(**settings)
    return getattr(transformers, made.family.architecture)(config)


def put(torch: Any, theirs: Any, tensors: dict[str, np.ndarray]) -> None:
    """Fills every parameter of theirs; a tied head has none of its own."""
    state = {name: torch.tensor(leaf) for name, leaf in tensors.items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if theirs.config.tie_word_embeddings else set()
    assert (set(missing) - tied, unexpected) == (set(), [])


def both(torch: Any, transformers: Any, case: Case) -> tuple[Made, Any]:
    """Our model and theirs with our weights."""
    made = make(case)
    theirs = theirs_of(transformers, made, case.vocab_size)
    put(torch, theirs, to_tensors(made.family, made.params, made.model.axes))
    return made, theirs.eval()


def draw_tokens(vocab_size: int, rows: int = B, length: int = T) -> np.ndarray:
    return np.random.default_rng(1).integers(vocab_size, size=(rows, length))


def logits_of_theirs(torch: Any, theirs: Any, tokens_BT: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return theirs(torch.tensor(tokens_BT)).logits.numpy()


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


# One of each class by default; the other shapes take a compilation each.
FIRST = {CASES[name].architecture: name for name in reversed(CASES)}
NAMES = [name if name in FIRST.values() else slow(name) for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_theirs_with_our_weights_and_with_theirs(
    torch: Any, transformers: Any, name: str
):
    case = CASES[name]
    made, tokens_BT = make(case), draw_tokens(case.vocab_size)
    theirs = theirs_of(transformers, made, case.vocab_size).eval()
    logits = jax.jit(lambda params: logits_of(made, params, tokens_BT))

    own = {key: leaf.numpy() for key, leaf in theirs.state_dict().items()}
    params = to_params(made.family, own, made.shapes, made.model.axes)
    expected = logits_of_theirs(torch, theirs, tokens_BT)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits(params), expected, atol=2e-5, rtol=0)

    put(torch, theirs, to_tensors(made.family, made.params, made.model.axes))
    expected = logits_of_theirs(torch, theirs, tokens_BT)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits(made.params), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", [*NAMES[:1], *(slow(name) for name in [*CASES][1:])])
def test_the_gradient_of_the_loss_is_theirs(torch: Any, transformers: Any, name: str):
    made, theirs = both(torch, transformers, CASES[name])
    batch = batch_of(draw_tokens(CASES[name].vocab_size))
    recipe = recipe_of("adamw", made.model, CASES[name].vocab_size)

    def loss(params: Any) -> jax.Array:
        sums = loss_sums(recipe, params, batch)
        return sums.nats / sums.tokens

    nats, ours = jax.jit(jax.value_and_grad(loss))(made.params)
    expected = loss_of_theirs(torch, theirs, batch)
    expected.backward()
    np.testing.assert_allclose(nats, expected.item(), rtol=1e-6)
    grads = {key: leaf.grad.numpy() for key, leaf in theirs.named_parameters()}
    wanted = without_noise(to_params(made.family, grads, made.shapes, made.model.axes))

    def compare(found: Any, wanted: np.ndarray) -> None:
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)

    jax.tree.map(compare, without_noise(ours), wanted)


def without_noise(tree: Any) -> Any:
    """The tree without the bias of keys.

    It shifts all scores of a query alike, so its gradient is rounding alone, and Adam makes whole
    steps of that.
    """
    layers, attention = dict(tree["layers"]), dict(tree["layers"]["attention"])
    attention.pop("b_k", None)
    return tree | {"layers": layers | {"attention": attention}}


def batch_of(tokens_BT: np.ndarray) -> Batch:
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
    return Batch(inputs_BT, targets_BT, np.ones(inputs_BT.shape, np.float32))


def loss_of_theirs(torch: Any, theirs: Any, batch: Batch) -> Any:
    """The mean loss, by PyTorch's own cross-entropy."""
    logits_BTV = theirs(torch.tensor(batch.inputs_BT)).logits
    targets = torch.tensor(batch.targets_BT).flatten()
    return torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST.values())
def test_twenty_steps_of_adamw_lead_to_their_weights(torch: Any, transformers: Any, name: str):
    made, theirs = both(torch, transformers, CASES[name])
    hyper = hyper_of("adamw", learning_rate=3e-3, weight_decay=0.1)
    recipe = recipe_of("adamw", made.model, CASES[name].vocab_size)
    state = create_state(recipe, hyper, jax.random.key(0))._replace(params=made.params)
    step = jax.jit(lambda state, batch: train_step(recipe, state, batch, hyper))
    matrices = [leaf for leaf in theirs.parameters() if leaf.ndim > 1]
    vectors = [leaf for leaf in theirs.parameters() if leaf.ndim == 1]
    descent = torch.optim.AdamW(
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
        lr=3e-3,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.1,
    )
    tokens = np.random.default_rng(2).integers(CASES[name].vocab_size, size=(20, B, T))
    for tokens_BT in tokens:
        batch = batch_of(tokens_BT)
        state, sums = step(state, batch)
        descent.zero_grad()
        loss = loss_of_theirs(torch, theirs, batch)
        loss.backward()
        descent.step()
        nats = float(sums.loss.nats / sums.loss.tokens)
        np.testing.assert_allclose(nats, loss.item(), atol=1e-3)
    tensors = {key: leaf.detach().numpy() for key, leaf in theirs.named_parameters()}
    wanted = to_params(made.family, tensors, made.shapes, made.model.axes)
    moved = np.abs(wanted["w_embed"] - made.params["w_embed"]).max()
    assert moved > 0.01

    def compare(found: Any, wanted: np.ndarray) -> None:
        np.testing.assert_allclose(found, wanted, atol=1e-3, rtol=0)

    jax.tree.map(compare, without_noise(state.params), without_noise(wanted))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn()


@pytest.fixture(scope="module", params=FIRST.values())
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer
) -> tuple[Path, Made]:
    """The folder of a class, and what is in it."""
    folder = tmp_path_factory.mktemp("exported")
    return folder, write(folder, CASES[request.param], tokenizer)


def test_an_exported_folder_opens_as_its_class_with_our_logits(
    torch: Any, transformers: Any, exported: tuple[Path, Made], tokenizer: Tokenizer
):
    folder, made = exported
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(theirs).__name__ == made.family.architecture
    tokens_BT = draw_tokens(tokenizer.vocab_size)
    expected = logits_of_theirs(torch, theirs, tokens_BT)
    np.testing.assert_allclose(logits_of(made, made.params, tokens_BT), expected, atol=2e-5, rtol=0)


def test_greedy_generation_is_theirs_token_for_token(
    torch: Any, transformers: Any, exported: tuple[Path, Made], tokenizer: Tokenizer
):
    folder, made = exported
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = [tokenizer.bos_id, *tokenizer.encode("Where is").tolist()]
    theirs.generation_config.eos_token_id = None  # a random model may end at once
    (expected,) = theirs.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),  # else the first token were padding
        max_new_tokens=32,
        do_sample=False,
        use_cache=True,
    )
    greedy = Sampling(temperature=0.0)
    stream = Generator(made.model, made.config.max_seq_len).stream(
        made.params, prompt, greedy, max_tokens=32
    )
    found = [drawn.token for drawn in stream]
    assert len(found) == 32 and len(set(found)) > 1
    assert found == expected[len(prompt) :].tolist()


def test_a_folder_that_transformers_saves_is_opened_with_the_same_weights(
    transformers: Any, exported: tuple[Path, Made], tmp_path: Path, tokenizer: Tokenizer
):
    folder, made = exported
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    found = open_pretrained(f"hf:{tmp_path}")
    found.require("gpt", made.config)
    assert found.tokenizer.sha256 == tokenizer.sha256
    assert_equal(found.params(made.model), made.params)


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_the_exported_tokenizer_gives_the_same_ids_and_texts(
    transformers: Any, tmp_path: Path, kind: str
):
    ours = learn(kind)
    write(tmp_path, CASES["nanochat-multi-query-tied"], ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Where is the ball?", "  It is\tin\n\nthe red box.\n", "345 — 12"):
        if kind == "char":
            text = "".join(c for c in text if c in ours.decode(range(ours.vocab_size)))
        ids = ours.encode(text).tolist()
        assert theirs(text)["input_ids"] == [ours.bos_id, *ids], "as a document begins"
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert theirs.decode(ids) == text
    assert len(theirs) == ours.vocab_size
    named = {name: theirs.convert_tokens_to_ids(name) for name in ours.special_ids}
    assert named == dict(ours.special_ids)
    assert theirs.bos_token_id == ours.bos_id


def test_the_chat_template_gives_the_ids_of_our_own(transformers: Any, tmp_path: Path):
    ours = learn()
    write(tmp_path, CASES["nanochat-multi-query-tied"], ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": role, "content": content} for role, content in MESSAGES]
    for reply in (False, True):
        found = theirs.apply_chat_template(messages, add_generation_prompt=reply, return_dict=False)
        assert found == render(ours, MESSAGES, reply=reply).ids.tolist()


def test_the_chat_template_refuses_a_role_as_we_do(transformers: Any, tmp_path: Path):
    jinja2 = pytest.importorskip("jinja2")
    ours = learn()
    write(tmp_path, CASES["nanochat-multi-query-tied"], ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(DataError, match="message 0"):
        render(ours, [("wizard", "Abracadabra.")])
    with pytest.raises(jinja2.TemplateError, match="message 0: role wizard is not known"):
        theirs.apply_chat_template([{"role": "wizard", "content": "Abracadabra."}])


def test_generation_ends_where_ours_does(transformers: Any, tmp_path: Path):
    ours = learn()
    write(tmp_path, CASES["gpt2-classic"], ours)
    config = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert config.eos_token_id == [ours.bos_id, ours.special_id("<|assistant_end|>")]
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] is None
