"""Names and shapes of the parameters that a model config asks for, and how many they are."""

import dataclasses
import math

DEFINITION = "names and sizes: no arrays"


def parameter_shapes(config):
    """Every parameter of the model: name -> shape. The names are the keys of checkpoints and of ``state_dict``.

    Linear weights are (outputs, inputs). ``query_key_value`` stacks the three projections along the outputs, so that
    one matrix product computes all three: all query heads, then all key heads, then all value heads. ``gate_up`` does
    the same for a gated feed-forward network: the half that is bent, then the half that it gates. Experts are stacked
    along a first axis.
    """
    d, features = config.width, config.head_features
    queries, keys = config.heads * features, config.key_value_heads * features
    shapes = {"token_embedding.weight": (config.vocab_size, d)}
    if config.positions == "learned":
        shapes["position_embedding.weight"] = (config.context, d)

    def norm(name):
        shapes[f"{name}.weight"] = (d,)
        if config.norm == "layer" and config.norm_bias:
            shapes[f"{name}.bias"] = (d,)

    def linear(name, outputs, inputs, bias, stack=()):
        shapes[f"{name}.weight"] = (*stack, outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (*stack, outputs)

    def feed_forward(name, f, stack=()):
        first, rows = ("gate_up", 2 * f) if config.gated else ("up", f)
        linear(f"{name}.{first}", rows, d, config.feed_forward_bias, stack)
        linear(f"{name}.down", d, f, config.feed_forward_bias, stack)

    for layer in range(config.layers):
        block = f"blocks.{layer}"
        norm(f"{block}.attention_norm")
        linear(f"{block}.attention.query_key_value", queries + 2 * keys, d, config.attention_bias)
        if config.qk_norm:
            shapes[f"{block}.attention.query_norm.weight"] = (features,)
            shapes[f"{block}.attention.key_norm.weight"] = (features,)
        linear(f"{block}.attention.output", d, queries, config.attention_bias)
        norm(f"{block}.feed_forward_norm")
        if layer not in config.moe_layers:
            feed_forward(f"{block}.feed_forward", config.feed_forward)
            continue
        linear(f"{block}.feed_forward.router", config.experts, d, config.router_bias)
        if config.noisy_router:
            linear(f"{block}.feed_forward.noise", config.experts, d, False)
        feed_forward(f"{block}.feed_forward.experts", config.expert_features, (config.experts,))
        if config.shared_experts:
            feed_forward(f"{block}.feed_forward.shared", config.shared_experts * config.expert_features)
    if config.norm_position == "pre":  # post-norm blocks already end in a norm
        norm("final_norm")
    if config.output == "reward":
        linear("reward", 1, d, True)
    elif not config.tie_embeddings:
        shapes["output.weight"] = (config.vocab_size, d)
    if config.output == "value":
        linear("value", 1, d, True)
    if config.output == "critic":  # a second model, of the shape of a reward model
        critic = parameter_shapes(dataclasses.replace(config, output="reward"))
        shapes |= {f"critic.{name}": shape for name, shape in critic.items()}
    return shapes


def is_router(name):
    """Whether a parameter is a router's: never rounded to 16 bits or fewer, and moved by AdamW."""
    return name.rpartition(".")[0].endswith(("feed_forward.router", "feed_forward.noise"))


def parameter_count(config):
    """Number of parameters; a tied output head counts once."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def active_parameter_count(config):
    """Parameters that a token meets: of stacked experts those that it goes to."""
    share = config.experts_per_token / max(1, config.experts)
    counts = {name: math.prod(shape) for name, shape in parameter_shapes(config).items()}
    return sum(round(count * share) if ".experts." in name else count for name, count in counts.items())
