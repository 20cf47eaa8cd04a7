"""Folders in the form of transformers, without transformers: written, opened, and refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nanogpt_jax.errors import ConfigError, DataError, Mismatch, TokenizerError
from nanogpt_jax.interop import FAMILIES, family_of, open_pretrained
from nanogpt_jax.interop.weights import to_params, to_tensors
from nanogpt_jax.models.gpt import Config
from nanogpt_jax.registry import fields_of
from nanogpt_jax.tokenization import Tokenizer
from tests.interop.cases import CASES, assert_equal, learn, make, write

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn()


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """The folder of a GPT-2."""
    write(tmp_path / "gpt2", CASES["gpt2-classic"], tokenizer)
    return tmp_path / "gpt2"


def change(path: Path, **values: Any) -> None:
    """Puts values into a file of JSON; None removes."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: each for key, each in content.items() if each != "gone"}))


@pytest.mark.parametrize("name", CASES)
def test_tensors_and_parameters_are_the_same_numbers_in_other_places(name: str):
    made = make(CASES[name])
    assert made.family.architecture == CASES[name].architecture
    tensors = to_tensors(made.family, made.params, made.model.axes)
    total = sum(leaf.size for leaf in tensors.values())
    assert total == sum(leaf.size for leaf in jax.tree.leaves(made.params))
    assert_equal(to_params(made.family, tensors, made.shapes, made.model.axes), made.params)


@pytest.mark.parametrize("name", CASES)
def test_a_folder_gives_back_what_was_written(name: str, tokenizer: Tokenizer, tmp_path: Path):
    made = write(tmp_path, CASES[name], tokenizer)
    found = open_pretrained(f"hf:{tmp_path}")
    assert found.family == made.family
    assert found.tokenizer.sha256 == tokenizer.sha256
    found.require("gpt", made.config, "chat")
    assert_equal(found.params(made.model), made.params)


def test_a_tokenizer_of_characters_goes_there_and_back(tmp_path: Path):
    tokenizer = learn("char")
    write(tmp_path, CASES["nanochat-multi-query-tied"], tokenizer)
    assert open_pretrained(f"hf:{tmp_path}").tokenizer.sha256 == tokenizer.sha256


def test_a_tokenizer_of_words_is_refused_before_config_json_is_written(tmp_path: Path):
    with pytest.raises(TokenizerError, match="a word tokenizer cannot be exported"):
        write(tmp_path, CASES["gpt2-classic"], learn("word"))
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.architecture)
def test_a_class_knows_every_field_that_it_names(family: Any):
    assert {*family.fixed, *family.unused} <= fields_of(Config).keys()
    assert set(family.fields.values()) - fields_of(Config).keys() <= {"d_head"}
    assert family.defaults.keys() <= {*family.fields, *family.required}


@pytest.mark.parametrize("clamp", [{"qkv_clamp": 5.0}, {"logit_clamp": 50.0}, {"head_bias": True}])
def test_a_config_that_no_class_carries_is_refused_by_its_fields(clamp: dict[str, Any]):
    (field, value), default = next(iter(clamp.items())), Config()
    with pytest.raises(ConfigError) as told:
        family_of("gpt", Config(**clamp))
    wanted = getattr(default, field)
    assert told.value.problems == [
        f"model.{field}={value!r}, {wanted!r} is required by NanoChatForCausalLM, the nearest class"
    ]


def test_every_field_that_a_class_does_not_carry_is_named():
    config = Config(qkv_clamp=5.0, logit_clamp=50.0, activation="swiglu")
    with pytest.raises(ConfigError) as told:
        family_of("gpt", config)
    assert [line.partition("=")[0] for line in told.value.problems] == [
        "model.qkv_clamp",
        "model.logit_clamp",
        "model.activation",
    ]


def test_another_model_than_gpt_is_refused():
    with pytest.raises(ConfigError, match=r"model.name='moe' .* model.name='gpt' is required"):
        family_of("moe", Config())


def test_what_only_training_knows_does_not_travel():
    assert family_of("gpt", Config(dropout=0.2, init="kaiming", remat=True)) is FAMILIES[0]


def test_a_run_that_describes_another_model_is_refused_field_by_field(folder: Path):
    found = open_pretrained(f"hf:{folder}")
    asked = dataclasses.replace(found.config, n_layer=3, max_seq_len=24, rope_base=7.0, dropout=0.1)
    with pytest.raises(Mismatch) as told:
        found.require("gpt", asked)
    assert str(told.value) == (
        f"init.from=hf:{folder}: model.n_layer=3, 2 is required; model.max_seq_len=24, 48 is "
        "required"
    )
    with pytest.raises(Mismatch, match=r"model.name='moe', 'gpt' is required"):
        found.require("moe", asked)


def test_a_shorter_context_is_the_same_model_where_positions_are_no_parameters(
    tokenizer: Tokenizer, tmp_path: Path
):
    write(tmp_path, CASES["llama-multi-head"], tokenizer)
    found = open_pretrained(f"hf:{tmp_path}")
    found.require("gpt", dataclasses.replace(found.config, max_seq_len=24))
    with pytest.raises(Mismatch, match=r"model.max_seq_len=96, 48 is required"):
        found.require("gpt", dataclasses.replace(found.config, max_seq_len=96))


def test_a_run_that_wants_special_tokens_which_the_model_lacks_is_refused(tmp_path: Path):
    write(tmp_path, CASES["gpt2-classic"], learn(special_tokens="bos"))
    found = open_pretrained(f"hf:{tmp_path}")
    with pytest.raises(Mismatch, match=r"it has no <\|assistant_end\|> and no row for one"):
        found.require("gpt", found.config, "chat")


@pytest.mark.parametrize(
    "values, problem",
    [
        ({"n_embd": 30}, "model.d_model=30 is not a multiple of model.n_head=4"),
        ({"n_embd": "32"}, "n_embd='32': a value of type int is required"),
        ({"n_embd": None}, "n_embd=0 must be greater than 0"),
        ({"n_embd": "gone"}, "n_embd is missing"),
        ({"n_layer": 0}, "n_layer=0 must be greater than 0"),
        (
            {"activation_function": "silu"},
            "activation_function='silu', 'gelu_new' or 'gelu_pytorch_tanh' or 'gelu' or 'relu' or "
            "'relu2' is required",
        ),
        ({"scale_attn_weights": False}, "scale_attn_weights=False, True is required"),
    ],
)
def test_a_config_json_that_gpt_cannot_follow_is_refused_by_its_keys(
    folder: Path, values: dict[str, Any], problem: str
):
    change(folder / "config.json", **values)
    with pytest.raises(ConfigError) as told:
        open_pretrained(f"hf:{folder}")
    assert told.value.problems == [f"hf:{folder}: {problem}"]


@pytest.mark.parametrize(
    "values, problem",
    [
        ({"head_dim": 16}, "head_dim=16, 8 is required"),
        ({"mlp_bias": True}, "attention_bias=False, True is required"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
            "rope_parameters.rope_type='llama3', 'default' is required",
        ),
        (
            {"rope_parameters": "gone", "rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_parameters.rope_type='linear', 'default' is required",
        ),
    ],
)
def test_keys_that_contradict_each_other_or_scale_positions_are_refused(
    tokenizer: Tokenizer, tmp_path: Path, values: dict[str, Any], problem: str
):
    write(tmp_path, CASES["llama-multi-head"], tokenizer)
    change(tmp_path / "config.json", **values)
    with pytest.raises(ConfigError) as told:
        open_pretrained(f"hf:{tmp_path}")
    assert told.value.problems == [f"hf:{tmp_path}: {problem}"]


def test_an_older_config_json_says_less_and_means_the_same(tokenizer: Tokenizer, tmp_path: Path):
    write(tmp_path, CASES["llama-multi-query-biases-tied"], tokenizer)
    before = open_pretrained(f"hf:{tmp_path}").config
    older = {"rope_parameters": "gone", "rope_theta": 500.0, "rope_scaling": None}
    change(tmp_path / "config.json", **older, head_dim="gone", dtype="gone")
    assert open_pretrained(f"hf:{tmp_path}").config == before


def test_a_class_that_is_not_known_is_refused(folder: Path):
    change(folder / "config.json", architectures=["MambaForCausalLM"])
    with pytest.raises(ConfigError, match=r"is a MambaForCausalLM; known are NanoChatForCausalLM,"):
        open_pretrained(f"hf:{folder}")


def test_weights_in_several_files_are_found_by_their_index(folder: Path):
    made = make(CASES["gpt2-classic"]._replace(vocab_size=learn().vocab_size))
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    files = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for name, held in files.items():
        save_file({key: tensors[key] for key in held}, folder / name)
    by_name = {key: name for name, held in files.items() for key in held}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": by_name}))
    assert_equal(open_pretrained(f"hf:{folder}").params(made.model), made.params)


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": {"a": "../a.safetensors"}}'])
def test_an_index_that_is_none_or_leads_elsewhere_is_refused(folder: Path, index: str):
    (folder / f"{WEIGHTS}.index.json").write_text(index)
    made = make(CASES["gpt2-classic"])
    with pytest.raises(DataError, match=r"index of safetensors|one of safetensors is required"):
        open_pretrained(f"hf:{folder}").params(made.model)


def test_openais_own_files_say_less_in_their_names_and_hold_masks(folder: Path):
    """The names of openai-community/gpt2: without the first word, and with buffers."""
    made = make(CASES["gpt2-classic"]._replace(vocab_size=learn().vocab_size))
    tensors = load_file(folder / WEIGHTS)
    bare = {name.removeprefix("transformer."): leaf for name, leaf in tensors.items()}
    assert bare.keys() != tensors.keys()
    bare["h.0.attn.bias"] = np.tril(np.ones((1, 1, 48, 48), np.float32))
    save_file(bare, folder / WEIGHTS)
    assert_equal(open_pretrained(f"hf:{folder}").params(made.model), made.params)


def test_rows_that_pad_the_vocabulary_are_left_out(folder: Path):
    made = make(CASES["gpt2-classic"]._replace(vocab_size=learn().vocab_size))
    tensors = load_file(folder / WEIGHTS)
    table = tensors["transformer.wte.weight"]
    tensors["transformer.wte.weight"] = np.pad(table, ((0, 7), (0, 0)), constant_values=9.0)
    save_file(tensors, folder / WEIGHTS)
    change(folder / "config.json", vocab_size=len(table) + 7)
    assert_equal(open_pretrained(f"hf:{folder}").params(made.model), made.params)


def test_a_vocabulary_with_fewer_rows_than_tokens_is_refused(folder: Path):
    change(folder / "config.json", vocab_size=100)
    with pytest.raises(Mismatch, match=r"has vocab_size=100, its tokenizer has 300 tokens"):
        open_pretrained(f"hf:{folder}")


def test_weights_in_bfloat16_are_read_as_what_they_are(folder: Path):
    made = make(CASES["gpt2-classic"]._replace(vocab_size=learn().vocab_size))
    tensors = load_file(folder / WEIGHTS)
    save_file({name: leaf.astype(jnp.bfloat16) for name, leaf in tensors.items()}, folder / WEIGHTS)
    found = open_pretrained(f"hf:{folder}").params(made.model)
    assert found["w_embed"].dtype == np.float32
    np.testing.assert_array_equal(found["w_embed"], jnp.asarray(made.params["w_embed"], "bfloat16"))


@pytest.mark.parametrize(
    "name, shape, problem",
    [
        ("transformer.wte.weight", None, "there is no tensor transformer.wte.weight"),
        (
            "transformer.h.1.attn.c_attn.weight",
            (32, 64),
            r"c_attn.weight has the shape \(32, 64\), \(32, 96\) is required",
        ),
        ("transformer.h.0.extra", (1,), "transformer.h.0.extra: found, and nothing that"),
    ],
)
def test_a_tensor_that_is_missing_misshapen_or_too_many_is_named(
    folder: Path, name: str, shape: tuple[int, ...] | None, problem: str
):
    made = make(CASES["gpt2-classic"]._replace(vocab_size=learn().vocab_size))
    tensors = load_file(folder / WEIGHTS)
    tensors.pop(name, None)
    if shape:
        tensors[name] = np.zeros(shape, np.float32)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(Mismatch, match=problem):
        open_pretrained(f"hf:{folder}").params(made.model)


def test_a_folder_with_a_pickle_alone_is_refused(folder: Path):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"neither model.safetensors nor .* other formats"):
        open_pretrained(f"hf:{folder}").params(make(CASES["gpt2-classic"]).model)


def test_a_damaged_file_of_weights_is_named(folder: Path):
    (folder / WEIGHTS).write_bytes(b"not safetensors")
    with pytest.raises(DataError, match=r"model.safetensors cannot be read"):
        open_pretrained(f"hf:{folder}").params(make(CASES["gpt2-classic"]).model)


def test_whatever_starts_a_document_is_bos_here(folder: Path, tokenizer: Tokenizer):
    """As in openai-community/gpt2, whose one special token is in the vocabulary too."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text().replace("<|bos|>", "<|endoftext|>"))
    content["model"]["vocab"]["<|endoftext|>"] = tokenizer.bos_id
    path.write_text(json.dumps(content))
    found = open_pretrained(f"hf:{folder}").tokenizer
    assert "<|endoftext|>" not in found.special_ids
    assert (found.bos_id, found.vocab_size) == (tokenizer.bos_id, tokenizer.vocab_size)
    text = "It is in the red box."
    np.testing.assert_array_equal(found.encode(text), tokenizer.encode(text))


def test_a_tokenizer_without_a_start_of_documents_is_refused(folder: Path):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|bos|>", "<|other|>"))
    change(folder / "config.json", bos_token_id=None, eos_token_id=3)
    with pytest.raises(TokenizerError, match="one that starts a document is required"):
        open_pretrained(f"hf:{folder}")


@pytest.mark.parametrize(
    "address", ["hf:", "hf:no/such/folder", "hf://one", "hf://a/b?c", "hf://a/.."]
)
def test_an_address_that_is_none_is_refused(address: str):
    with pytest.raises(ConfigError, match="hf:FOLDER or hf://ORGANISATION/NAME"):
        open_pretrained(address)
