"""LlamaForCausalLM and Qwen3ForCausalLM, and what most classes of transformers call the same.

Both turn queries and keys by the same angles as `gpt`, the other way round. Scaled rotary
positions, sliding windows and heads wider than their share of the width are refused.
"""

from nanogpt_jax.interop.family import Family

FIELDS = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "num_key_value_heads": "n_kv_head",
    "hidden_size": "d_model",
    "intermediate_size": "d_hidden",
    "hidden_act": "activation",
    "max_position_embeddings": "max_seq_len",
    "rms_norm_eps": "norm_eps",
    "rope_parameters.rope_theta": "rope_base",
    "tie_word_embeddings": "tied_head",
}
REQUIRED = {
    "rope_parameters.rope_type": "default",
    "rope_parameters.partial_rotary_factor": 1.0,
}
DEFAULTS = {
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-6,
    "rope_parameters.rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
AT = "model.layers.{layer}"
ENDS_AND_ATTENTION = {
    "w_embed": "model.embed_tokens.weight",
    "w_head": "lm_head.weight",
    **{
        f"layers/attention/{kind[0]}_{letter}": f"{AT}.self_attn.{letter}_proj.{kind}"
        for kind in ("weight", "bias")
        for letter in "qkvo"
    },
}
BUFFERS = ("rotary_emb.inv_freq",)  # in older files

_FIXED = {"norm_gain": True, "embed_norm": False, "logit_softcap": 0.0}
_NAMES = {
    **ENDS_AND_ATTENTION,
    "norm_final/gain": "model.norm.weight",
    "layers/norm_attention/gain": f"{AT}.input_layernorm.weight",
    "layers/norm_mlp/gain": f"{AT}.post_attention_layernorm.weight",
    **{
        f"layers/mlp/{kind[0]}_{part}": f"{AT}.mlp.{part}_proj.{kind}"
        for kind in ("weight", "bias")
        for part in ("gate", "up", "down")
    },
}
_ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu"}

LLAMA = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    fields=FIELDS | {"head_dim": "d_head", "attention_bias": "bias", "mlp_bias": "bias"},
    fixed=_FIXED | {"qk_norm": "off"},
    required=REQUIRED,
    defaults=DEFAULTS | {"head_dim": None, "attention_bias": False, "mlp_bias": False},
    activations=_ACTIVATIONS,
    names=_NAMES,
    turned=True,
    buffers=BUFFERS,
)
QWEN3 = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    fields=FIELDS | {"head_dim": "d_head"},
    fixed=_FIXED | {"qk_norm": "before_rope_gain"},
    required=REQUIRED | {"attention_bias": False, "use_sliding_window": False},
    defaults=DEFAULTS | {"head_dim": 128},
    activations=_ACTIVATIONS,
    names=_NAMES
    | {
        "layers/attention/gain_q": f"{AT}.self_attn.q_norm.weight",
        "layers/attention/gain_k": f"{AT}.self_attn.k_norm.weight",
    },
    turned=True,
    buffers=BUFFERS,
)
