"""The inspections that can be asked for: of each one the plan, with the shape of every array.

The names of the arrays are those of the answer. nanogpt_jax.inspection does the looking; here is
decided what of it is shown. Nothing runs a model before `Plan.answer` is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nanogpt_jax import inspection
from nanogpt_jax.decoding import MOST_ALTERNATIVES
from nanogpt_jax.inspection.intervention import RUNS_AT_ONCE
from nanogpt_jax.interface import Params
from nanogpt_jax.serve.payload import Field
from nanogpt_jax.serve.plans import FLOAT32_BYTES, Arrays, Plan, Prompt, Unanswerable, choose

# The arrays that hold tokens.
OF_TOKENS = ("tokens", "clean_tokens", "corrupted_tokens", "answer", "alternatives")


def plan_tokens(prompt: Prompt, *, alternatives: int) -> Plan:
    """Loss and rank of every token, and the likeliest ones at every position."""

    def answer(params: Params) -> Arrays:
        # However few are shown: another number would be another program.
        found = prompt.ask(inspection.predict, params, alternatives=MOST_ALTERNATIVES)
        return {"tokens": prompt.tokens, **_named(expected, found)}

    expected = _expectations(prompt, (), alternatives)
    return Plan(
        prompt=prompt,
        fields={"tokens": _integers(len(prompt.tokens)), **expected},
        beside={},
        held_bytes=prompt.logits_bytes() + prompt.scores_bytes(),
        passes=1,
        answer=answer,
    )


def plan_silence(
    prompt: Prompt, *, heads: Sequence[Sequence[int]], mlps: Sequence[int], alternatives: int
) -> Plan:
    """As `plan_tokens`, while the (layer, head) pairs and the layers' MLPs give zeros."""

    def answer(params: Params) -> Arrays:
        # A list may be empty: so one program serves any choice.
        edits = inspection.silence(
            prompt.run.model,
            params,
            heads=[(layer, head) for layer, head in heads] if "head_out" in sites else None,
            mlps=mlps if "mlp_out" in sites else None,
        )
        options = {"alternatives": MOST_ALTERNATIVES, "edits": edits}
        found = prompt.ask(inspection.predict, params, **options)
        return {"tokens": prompt.tokens, **_named(expected, found)}

    sites = [site for site in ("head_out", "mlp_out") if prompt.site_shape(site)]
    prompt.require(*(["head_out"] if heads else []), *(["mlp_out"] if mlps else []))
    shape = prompt.run.shape
    if heads:
        choose("layers of heads", [layer for layer, _ in heads], shape.n_layer)
        choose("heads", [head for _, head in heads], shape.n_head)
    if mlps:
        choose("mlps", mlps, shape.n_layer)
    expected = _expectations(prompt, (), alternatives)
    return Plan(
        prompt=prompt,
        fields={"tokens": _integers(len(prompt.tokens)), **expected},
        beside={"heads": sorted({*map(tuple, heads)}), "mlps": sorted({*mlps})},
        held_bytes=prompt.logits_bytes() + prompt.scores_bytes(),
        passes=1,
        answer=answer,
    )


def plan_lens(prompt: Prompt, *, depths: Sequence[int] | None, alternatives: int) -> Plan:
    """As `plan_tokens`, at depths of the residual stream: 0 before the layers, L after them."""

    def answer(params: Params) -> Arrays:
        found = prompt.ask(inspection.logit_lens, params, alternatives=MOST_ALTERNATIVES)
        return {"tokens": prompt.tokens, **_named(expected, [part[chosen] for part in found])}

    prompt.require("residual")
    chosen = choose("depths", depths, prompt.run.shape.n_layer + 1)
    expected = _expectations(prompt, (len(chosen),), alternatives)
    return Plan(
        prompt=prompt,
        fields={"tokens": _integers(len(prompt.tokens)), **expected},
        beside={"depths": chosen},
        held_bytes=prompt.logits_bytes() + prompt.scores_bytes(),
        passes=1 + len(chosen),  # a head as large as the layers is read at every depth
        answer=answer,
    )


def plan_attention(
    prompt: Prompt, *, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> Plan:
    """Where heads look from every query, how widely and how far back; experts, if there are any."""

    def answer(params: Params) -> Arrays:
        found = prompt.ask(inspection.attention, params)
        shown = [part[rows][:, columns] for part in found]
        if routing:
            shown += [part[rows] for part in prompt.ask(inspection.routing, params)]
        names = (*looks, *routing)
        return {"tokens": prompt.tokens, **dict(zip(names, shown, strict=True))}

    prompt.require("attention")
    rows, columns = prompt.choose_layers(layers), prompt.choose_heads(heads)
    L, H, T = len(rows), len(columns), len(prompt.tokens)
    looks = {
        "probabilities": _reals(L, H, T, T),
        "entropy_nats": _reals(L, H, T),
        "distance_tokens": _reals(L, H, T),
    }
    routing = _experts(prompt, L, T)
    shape = prompt.run.shape
    captured_bytes = FLOAT32_BYTES * shape.n_layer * shape.n_head * prompt.padded_length**2
    return Plan(
        prompt=prompt,
        fields={"tokens": _integers(T), **looks, **routing},
        beside={"layers": rows, "heads": columns},
        held_bytes=3 * captured_bytes,  # on the device, and on the host beside its logarithm
        passes=2 if routing else 1,
        answer=answer,
    )


def plan_ablation(
    prompt: Prompt, *, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> Plan:
    """Losses without each head, and without each layer's MLP where the model has MLPs."""

    def answer(params: Params) -> Arrays:
        by_head = prompt.ask(inspection.ablate_heads, params)
        arrays = {
            "tokens": prompt.tokens,
            "nats": by_head.nats_P,
            "without_head_nats": by_head.without_nats_LHP[rows][:, columns],
        }
        if mlps:
            by_mlp = prompt.ask(inspection.ablate_mlps, params)
            arrays["without_mlp_nats"] = by_mlp.without_nats_LP[rows]
        return arrays

    prompt.require("head_out")
    if len(prompt.tokens) < 2:
        raise Unanswerable("found 1 token; at least 2 are required, for the first has no loss")
    rows, columns = prompt.choose_layers(layers), prompt.choose_heads(heads)
    L, H, P = len(rows), len(columns), len(prompt.tokens) - 1
    mlps = {"without_mlp_nats": _reals(L, P)} if prompt.site_shape("mlp_out") else {}
    shape = prompt.run.shape
    return Plan(
        prompt=prompt,
        fields={
            "tokens": _integers(P + 1),
            "nats": _reals(P),
            "without_head_nats": _reals(L, H, P),
            **mlps,
        },
        beside={"layers": rows, "heads": columns},
        held_bytes=RUNS_AT_ONCE * (prompt.logits_bytes() + prompt.scores_bytes()),
        # As it is, and without each part: the sweep covers all of them, whatever is shown.
        passes=1 + shape.n_layer * shape.n_head + (1 + shape.n_layer if mlps else 0),
        answer=answer,
    )


def plan_patching(prompt: Prompt, corrupted: Prompt, *, site: str, answer: int | None) -> Plan:
    """How much of the clean answer each state, and each head, brings to the corrupted prompt."""

    def patch(params: Params) -> Arrays:
        options = {"corrupted": corrupted.tokens, "answer": answer}
        states = prompt.ask(inspection.patch_positions, params, site=site, **options)
        by_head = prompt.ask(inspection.patch_heads, params, **options)
        return {
            "clean_tokens": prompt.tokens,
            "corrupted_tokens": corrupted.tokens,
            "answer": states.answer,
            "clean_logprob": states.clean,
            "corrupted_logprob": states.corrupted,
            "patched_position_logprobs": states.patched,
            "patched_head_logprobs": by_head.patched,
        }

    prompt.require(site, "head_out")
    T, shape = len(prompt.tokens), prompt.run.shape
    if T != len(corrupted.tokens):
        raise Unanswerable(
            f"found {T} clean and {len(corrupted.tokens)} corrupted tokens; prompts of one length "
            "are required, so that positions correspond"
        )
    if answer is not None and not 0 <= answer < shape.vocab_size:
        raise Unanswerable(f"answer must be a token from 0 to {shape.vocab_size - 1}")
    return Plan(
        prompt=prompt,
        fields={
            "clean_tokens": _integers(T),
            "corrupted_tokens": _integers(T),
            "answer": _integers(),
            "clean_logprob": _reals(),
            "corrupted_logprob": _reals(),
            "patched_position_logprobs": _reals(shape.n_layer, T),
            "patched_head_logprobs": _reals(shape.n_layer, shape.n_head),
        },
        beside={"site": site},
        held_bytes=RUNS_AT_ONCE * prompt.scores_bytes(),
        # Twice both prompts, and one for each position or head of each layer.
        passes=4 + shape.n_layer * (prompt.padded_length + shape.n_head),
        answer=patch,
    )


def _integers(*shape: int) -> Field:
    return Field(shape, "int32")


def _reals(*shape: int) -> Field:
    return Field(shape, "float32")


def _expectations(prompt: Prompt, lead: tuple[int, ...], alternatives: int) -> dict[str, Field]:
    """The parts of inspection.Predictions in their order, or of a Lens with its leading axis."""
    T, A = len(prompt.tokens), min(alternatives, prompt.run.shape.vocab_size)
    return {
        "nats": _reals(*lead, T - 1),
        "ranks": _integers(*lead, T - 1),
        "entropy_nats": _reals(*lead, T),
        "alternatives": _integers(*lead, T, A),
        "logprobs": _reals(*lead, T, A),
    }


def _named(expected: Mapping[str, Field], parts: Sequence[np.ndarray]) -> Arrays:
    """The parts by name, without the alternatives that were not asked for."""
    return {
        name: part[..., : field.shape[-1]]
        for (name, field), part in zip(expected.items(), parts, strict=True)
    }


def _experts(prompt: Prompt, L: int, T: int) -> dict[str, Field]:
    """The parts of inspection.Routing in their order, for a model that has a router."""
    if (shape := prompt.site_shape("router")) is None:
        return {}
    E = shape[-1]
    return {
        "router_probabilities": _reals(L, T, E),
        "gates": _reals(L, T, E),
        "expert_share": _reals(L, E),
    }
