"""NanoChatForCausalLM, whose block is that of `gpt` with every switch at its default."""

from nanogpt_jax.interop.family import Family
from nanogpt_jax.interop.llama import AT, BUFFERS, DEFAULTS, ENDS_AND_ATTENTION, FIELDS, REQUIRED

NANOCHAT = Family(
    architecture="NanoChatForCausalLM",
    model_type="nanochat",
    fields=FIELDS | {"final_logit_softcapping": "logit_softcap"},
    fixed={},
    required=REQUIRED | {"attention_bias": False},
    defaults=DEFAULTS | {"hidden_act": "relu2", "final_logit_softcapping": 15.0},
    activations={
        "relu2": "relu2",
        "relu": "relu",
        "gelu": "gelu",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_new": "gelu_tanh",
    },
    names={
        **ENDS_AND_ATTENTION,
        "layers/mlp/w_up": f"{AT}.mlp.fc1.weight",
        "layers/mlp/w_down": f"{AT}.mlp.fc2.weight",
    },
    buffers=BUFFERS,
)
