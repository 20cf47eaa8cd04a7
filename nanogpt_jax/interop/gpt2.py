"""GPT2LMHeadModel: configs/gpt2_classic.py and OpenAI's four sizes.

Its linear layers keep (inputs, outputs), and queries, keys and values are one matrix.
"""

from nanogpt_jax.interop.family import Family

_AT = "transformer.h.{layer}"


def _both(ours: str, theirs: str) -> dict[str, str]:
    """Weight and bias of a linear layer."""
    place, _, letter = ours.rpartition("/")
    return {f"{place}/{kind[0]}_{letter}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def _norm(ours: str, theirs: str) -> dict[str, str]:
    """Gain and bias of a norm."""
    return {f"{ours}/gain": f"{theirs}.weight", f"{ours}/bias": f"{theirs}.bias"}


GPT2 = Family(
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    fields={
        "n_layer": "n_layer",
        "n_head": "n_head",
        "n_embd": "d_model",
        "n_inner": "d_hidden",
        "n_positions": "max_seq_len",
        "activation_function": "activation",
        "layer_norm_epsilon": "norm_eps",
        "tie_word_embeddings": "tied_head",
    },
    fixed={
        "norm": "layer",
        "norm_gain": True,
        "bias": True,
        "embed_norm": False,
        "positions": "learned",
        "qk_norm": "off",
        "logit_softcap": 0.0,
    },
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    defaults={
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    activations={
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu": "gelu",
        "relu": "relu",
        "relu2": "relu2",
    },
    names={
        "w_embed": "transformer.wte.weight",
        "w_position": "transformer.wpe.weight",
        "w_head": "lm_head.weight",
        **_norm("norm_final", "transformer.ln_f"),
        **_norm("layers/norm_attention", f"{_AT}.ln_1"),
        **_norm("layers/norm_mlp", f"{_AT}.ln_2"),
        **_both("layers/attention/q", f"{_AT}.attn.c_attn"),
        **_both("layers/attention/k", f"{_AT}.attn.c_attn"),
        **_both("layers/attention/v", f"{_AT}.attn.c_attn"),
        **_both("layers/attention/o", f"{_AT}.attn.c_proj"),
        **_both("layers/mlp/up", f"{_AT}.mlp.c_fc"),
        **_both("layers/mlp/down", f"{_AT}.mlp.c_proj"),
    },
    transposed=False,
    unused=frozenset({"rope_base"}),
    buffers=(".attn.bias", ".attn.masked_bias"),  # the causal mask, in older files
)
