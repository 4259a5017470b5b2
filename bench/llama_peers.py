"""Llama by other projects, with our weights: Hugging Face's, litgpt's, and plain PyTorch modules. See `peers`."""

from importlib.metadata import version

import numpy as np
import torch

from bench import inference, sides
from bench.peers import Peer
from bench.plain import PlainLlama

PARTS = {  # of a block, as Hugging Face names them
    "attention_norm": ("input_layernorm",),
    "feed_forward_norm": ("post_attention_layernorm",),
    "attention.query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.output": ("self_attn.o_proj",),
    "feed_forward.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "feed_forward.down": ("mlp.down_proj",),
}


def hugging_face(job):
    """(LlamaForCausalLM, our config, our names and layouts to theirs, version)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = inference.model_config(job)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            head_dim=config.head_features,
            max_position_embeddings=config.context,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            tie_word_embeddings=False,
            attention_bias=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )
    outer = {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "output": "lm_head"}
    theirs = renaming(config, "model.layers", PARTS, outer)
    return model, config, theirs, "transformers " + version("transformers")


def litgpt(job):
    """The same for litgpt's GPT."""
    from litgpt.config import Config
    from litgpt.model import GPT

    config = inference.model_config(job)
    model = GPT(
        Config(
            block_size=config.context,
            vocab_size=config.vocab_size,
            padded_vocab_size=config.vocab_size,
            n_layer=config.layers,
            n_head=config.heads,
            n_query_groups=config.key_value_heads,
            n_embd=config.width,
            intermediate_size=config.feed_forward,
            rotary_percentage=1.0,
            rope_base=int(config.rope_base),
            parallel_residual=False,
            bias=False,
            lm_head_bias=False,
            norm_class_name="RMSNorm",
            norm_eps=config.norm_eps,
            mlp_class_name="LLaMAMLP",
        )
    )
    if not hasattr(model.transformer.h[0].attn, "qkv"):
        raise ImportError(f"litgpt {version('litgpt')} interleaves heads; 0.5 or newer is needed")
    parts = {
        "attention_norm": ("norm_1",),
        "feed_forward_norm": ("norm_2",),
        "attention.query_key_value": ("attn.qkv",),
        "attention.output": ("attn.proj",),
        "feed_forward.gate_up": ("mlp.fc_1", "mlp.fc_2"),
        "feed_forward.down": ("mlp.proj",),
    }
    outer = {"token_embedding": "transformer.wte", "final_norm": "transformer.ln_f", "output": "lm_head"}
    return model, config, renaming(config, "transformer.h", parts, outer), "litgpt " + version("litgpt")


def plain(job):
    """The same for plain PyTorch modules, whose names are ours."""
    config = inference.model_config(job)
    return PlainLlama(config), config, dict, "torch " + torch.__version__


BUILDERS = {"hf": hugging_face, "litgpt": litgpt, "plain": plain}


def renaming(config, layers, parts, outer):
    """A function from our names to theirs; stacked matrices are cut where they keep the parts apart."""
    queries, keys = (heads * config.head_features for heads in (config.heads, config.key_value_heads))
    cuts = {3: [queries, queries + keys], 2: [config.feed_forward], 1: []}

    def theirs(arrays):
        found = {}
        for name, value in arrays.items():
            path, leaf = name.rsplit(".", 1)
            if path in outer:
                found[f"{outer[path]}.{leaf}"] = value
                continue
            _, layer, part = path.split(".", 2)
            for inner, piece in zip(parts[part], np.split(value, cuts[len(parts[part])]), strict=True):
                found[f"{layers}.{layer}.{inner}.{leaf}"] = piece
        return found

    return theirs


class Inference(Peer):
    """Greedy texts and prompt reading by a peer's own functions, with its cache."""

    def __init__(self, job):
        super().__init__(job, *BUILDERS[job["implementation"]](job))
        self.model = self.forward = self.model.to(self.dtype).eval()
        self.tokens = job["shape"]["tokens"]
        self.text, self.prefill = {
            "hf": (self._hf_text, self._hf_prefill),
            "litgpt": (self._litgpt_text, self._litgpt_prefill),
        }[job["implementation"]]

    def results(self):
        with torch.no_grad():
            logits = self.logits(torch.from_numpy(inference.prompts(1, inference.PROMPT)).to(self.device))
        texts = {f"tokens {rows}": self.text(rows).cpu().numpy() for rows in inference.batches(self.job)}
        return {"logits": sides.flatten(logits)["y"]} | texts

    def _prompts(self, rows):
        return torch.from_numpy(inference.prompts(rows, inference.PROMPT)).to(self.device)

    def _hf_text(self, rows):
        prompts = self._prompts(rows)
        text = self.model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            min_new_tokens=self.tokens,
            max_new_tokens=self.tokens,
            pad_token_id=0,
        )
        return text[:, inference.PROMPT :]

    @torch.inference_mode()
    def _hf_prefill(self, tokens):
        tokens = torch.from_numpy(tokens).to(self.device)
        return self.model(tokens, use_cache=True, logits_to_keep=1).logits

    def _litgpt_cache(self, rows, length):
        self.model.clear_kv_cache()
        self.model.max_seq_length = length
        self.model.set_kv_cache(rows, length, device=self.device, dtype=self.dtype)

    @torch.inference_mode()
    def _litgpt_text(self, rows):
        from litgpt.generate.base import batched_generate_fn, generate

        prompts, length = self._prompts(rows), inference.PROMPT + self.tokens
        greedy = {"temperature": 0.0, "top_p": 0.0}  # a top_p above 0 would draw even at temperature 0
        self._litgpt_cache(rows, length)
        if rows == 1:
            return generate(self.model, prompts[0], length, **greedy, include_prompt=False)[None]
        steps = batched_generate_fn(
            self.model, prompts, length, sample_args=greedy, include_prompt=False, include_eos=False
        )
        return torch.stack([torch.cat(step) for step in steps], 1)

    @torch.inference_mode()
    def _litgpt_prefill(self, tokens):
        tokens = torch.from_numpy(tokens).to(self.device)
        self._litgpt_cache(1, tokens.shape[1])
        return self.model(tokens, torch.arange(tokens.shape[1], device=self.device))[:, -1]
