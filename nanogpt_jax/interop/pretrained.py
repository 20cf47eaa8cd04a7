"""A folder in the form of transformers: opened as a model of ours, or written from one.

A folder holds config.json, safetensors and a tokenizer. What `gpt` does not carry exactly is
refused. Nothing here knows run directories; `hub` brings what lies elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from nanogpt_jax.errors import ConfigError, DataError, Mismatch
from nanogpt_jax.interface import LanguageModel, Params
from nanogpt_jax.interop import hub, vocabulary, weights
from nanogpt_jax.interop.family import Family
from nanogpt_jax.interop.gpt2 import GPT2
from nanogpt_jax.interop.llama import LLAMA, QWEN3
from nanogpt_jax.interop.nanochat import NANOCHAT
from nanogpt_jax.models.gpt import Config
from nanogpt_jax.tokenization import Tokenizer
from nanogpt_jax.tokenization.special import SpecialTokens, special_names
from nanogpt_jax.tokenization.writing import write_whole

FAMILIES = (NANOCHAT, QWEN3, LLAMA, GPT2)
CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model of transformers as one of ours; its weights are read when they are asked for."""

    address: str
    folder: Path
    family: Family
    config: Config
    tokenizer: Tokenizer

    def require(self, name: str, config: Any, special_tokens: SpecialTokens = "bos") -> None:
        """Raises Mismatch naming every field by which the model asked for is another."""
        if name != "gpt":
            found = [f"model.name={name!r}, 'gpt' is required"]
        else:
            found = self.family.differences(config, self.config)
        if lacking := set(special_names(special_tokens)) - self.tokenizer.special_ids.keys():
            found.append(
                f"tokenizer.special_tokens={special_tokens!r}, but it has no {min(lacking)} and no "
                "row for one: 'bos' is required"
            )
        if found:
            raise Mismatch(f"init.from={self.address}: {'; '.join(found)}")

    @property
    def opens(self) -> bool:
        """Whether a text begins with `<|bos|>`."""
        return vocabulary.opens(self.folder)

    def params(self, model: LanguageModel) -> Params:
        """The parameters, in float32 on the host; Mismatch where a tensor does not fit."""
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        try:
            return weights.to_params(self.family, weights.read(self.folder), shapes, model.axes)
        except Mismatch as error:
            raise Mismatch(f"{self.address}: {error}") from error


def open_pretrained(address: str) -> Pretrained:
    """The model at `hf:FOLDER` or `hf://ORGANISATION/NAME[@REVISION]`.

    Raises ConfigError naming every key of config.json that `gpt` cannot follow.
    """
    folder = hub.bring(address)
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        architectures = list(settings["architectures"])
    except OSError as error:
        raise DataError(
            f"{address}: {folder / CONFIG} cannot be read ({error.strerror}); a folder of a model "
            "of transformers is required"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{address}: {folder / CONFIG} names no class of a model") from error
    found = [family for family in FAMILIES if family.architecture in architectures]
    if not found:
        known = ", ".join(family.architecture for family in FAMILIES)
        raise ConfigError(f"{address} is a {', '.join(architectures)}; known are {known}")
    try:
        config = found[0].read(settings)
    except ConfigError as error:
        raise ConfigError([f"{address}: {problem}" for problem in error.problems]) from error
    tokenizer = vocabulary.read(folder, settings)
    rows = settings.get("vocab_size")
    if not isinstance(rows, int) or tokenizer.vocab_size > rows:
        raise Mismatch(
            f"{address}: config.json has vocab_size={rows}, its tokenizer has "
            f"{tokenizer.vocab_size} tokens: at least as many rows are required"
        )
    return Pretrained(address, folder, found[0], config, tokenizer)


def family_of(name: str, config: Any) -> Family:
    """The class that carries a model exactly; ConfigError says what the nearest would require."""
    if name != "gpt":
        raise ConfigError(
            f"model.name={name!r} is no class of transformers; model.name='gpt' is required"
        )
    problems = {family.architecture: family.problems(config) for family in FAMILIES}
    nearest = min(FAMILIES, key=lambda family: len(problems[family.architecture]))
    if found := problems[nearest.architecture]:
        raise ConfigError(
            [f"{line} by {nearest.architecture}, the nearest class" for line in found]
        )
    return nearest


def write_pretrained(
    folder: Path,
    name: str,
    config: Any,
    model: LanguageModel,
    params: Params,
    tokenizer: Tokenizer,
    *,
    opens: bool = True,
) -> Family:
    """Writes what AutoModelForCausalLM and AutoTokenizer open, config.json last; gives the class.

    With `opens`, their tokenizer puts `<|bos|>` before a text, as before a document in training.
    Raises ConfigError naming the fields of a config that no class carries exactly.
    """
    family = family_of(name, config)
    folder.mkdir(parents=True, exist_ok=True)
    ends = vocabulary.ends_of(tokenizer)
    special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": ends if ends[1:] else ends[0]}
    vocabulary.write(folder, tokenizer, config.max_seq_len, opens)
    weights.write(folder / weights.WEIGHTS, weights.to_tensors(family, params, model.axes))
    _write(folder / "generation_config.json", special | {"pad_token_id": tokenizer.bos_id})
    # A token that pads would have an embedding that does not learn, so the model knows of none.
    settings = family.describe(config, tokenizer.vocab_size) | special | {"pad_token_id": None}
    _write(folder / CONFIG, settings)
    return family


def _write(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=2) + "\n")
