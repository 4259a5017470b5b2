"""Other projects on the same work: Hugging Face's GPT-2, litgpt's GPT, and a plain PyTorch model as a baseline.

Each is built at our shape and given our initial weights, under its own names: the gate compares its loss and gradients
with the NumPy reference of the same architecture, so what is timed is the same function, not just the same size.
Where an architecture can't be ours, ours is configured as theirs for the check: learned positions for GPT-2 and plain
PyTorch, none for litgpt (its rotary ones are switched off, which only spares it work), attention biases for both
projects. The step is the usual one: autocast for bfloat16, gradient clipping, fused AdamW.
"""

from contextlib import nullcontext
from importlib.metadata import version

import torch
import torch.nn.functional as F

from bench import candidates, sides
from bench.plain import Plain
from numpy_ref.config import parameter_count


def make(job):
    """The candidate of a peer's job: Llama where the preset has rotary positions, else GPT-2."""
    kind = {"training": Training, "generation": Generation}[job["kind"]]
    builders = {"hf": hugging_face, "litgpt": litgpt, "plain": plain}
    if candidates.is_modern(job):
        from bench.llama_peers import BUILDERS as builders
    return kind(job, *builders[job["implementation"]](job))


def hugging_face(job):
    """(GPT2LMHeadModel with our weights, the config that describes it, our names and layouts to theirs, version)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = candidates.model_config(job, positions="learned", attention_bias=True, embedding_scale=1.0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            n_inner=config.feed_forward,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            layer_norm_epsilon=config.norm_eps,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    parts = {
        "attention_norm": "ln_1",
        "attention.query_key_value": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward.up": "mlp.c_fc",
        "feed_forward.down": "mlp.c_proj",
    }
    outer = {
        "token_embedding": "transformer.wte",
        "position_embedding": "transformer.wpe",
        "final_norm": "transformer.ln_f",
        "output": "lm_head",
    }

    def theirs(arrays):
        found = {}
        for name, value in arrays.items():
            renamed = _renamed(name, parts, outer)
            is_convolution = ".c_" in renamed and value.ndim == 2  # its linear maps store (inputs, outputs)
            found[renamed] = value.T if is_convolution else value
        return found

    return model, config, theirs, "transformers " + version("transformers")


def litgpt(job):
    """The same for litgpt's GPT. Newer versions stack queries, keys and values; older ones interleave them by head."""
    from litgpt.config import Config
    from litgpt.model import GPT

    config = candidates.model_config(job, positions="none", attention_bias=True, embedding_scale=1.0)
    model = GPT(
        Config(
            block_size=config.context,
            vocab_size=config.vocab_size,
            padded_vocab_size=config.vocab_size,
            n_layer=config.layers,
            n_head=config.heads,
            n_embd=config.width,
            intermediate_size=config.feed_forward,
            rotary_percentage=0.0,
            parallel_residual=False,
            bias=True,
            lm_head_bias=False,
            norm_class_name="LayerNorm",
            norm_eps=config.norm_eps,
            mlp_class_name="GptNeoxMLP",
        )
    )
    interleaved = not hasattr(model.transformer.h[0].attn, "qkv")
    parts = {
        "attention_norm": "norm_1",
        "attention.query_key_value": "attn.attn" if interleaved else "attn.qkv",
        "attention.output": "attn.proj",
        "feed_forward_norm": "norm_2",
        "feed_forward.up": "mlp.fc",
        "feed_forward.down": "mlp.proj",
    }
    outer = {"token_embedding": "transformer.wte", "final_norm": "transformer.ln_f", "output": "lm_head"}

    def theirs(arrays):
        found = {}
        for name, value in arrays.items():
            if "query_key_value" in name and interleaved:
                split = value.reshape(3, config.heads, -1, *value.shape[1:])
                value = split.swapaxes(0, 1).reshape(value.shape)
            found[_renamed(name, parts, outer)] = value
        return found

    return model, config, theirs, "litgpt " + version("litgpt")


def plain(job):
    """The same for the plain PyTorch baseline, whose names are ours."""
    config = candidates.model_config(job, positions="learned", embedding_scale=1.0)
    return Plain(config), config, dict, "torch " + torch.__version__


def _renamed(name, parts, outer):
    path, leaf = name.rsplit(".", 1)
    if path in outer:
        return f"{outer[path]}.{leaf}"
    _, layer, part = path.split(".", 2)
    return f"transformer.h.{layer}.{parts[part]}.{leaf}"


class Peer:
    """A peer's model with our initial weights, and the reference of the architecture it has."""

    def __init__(self, job, model, config, theirs, version):
        self.job, self.config, self.theirs, self.device = job, config, theirs, job.get("device", "cpu")
        self.dtype = getattr(torch, job["dtype"])
        params = theirs(candidates.initial_params(config, job.get("cache")))
        weights = {name: torch.from_numpy(value.copy()) for name, value in params.items()}
        model.load_state_dict(weights)
        self.model = model.to(self.device)
        self.notes = {"parameters": parameter_count(config), "version": version}

    def logits(self, tokens):
        result = self.forward(tokens)
        return getattr(result, "logits", result)


class Training(Peer):
    """One training step of a peer, as its users write it."""

    def __init__(self, job, *built):
        super().__init__(job, *built)
        self.reference_label = repr((job["implementation"], self.config))
        self.forward = torch.compile(self.model) if job.get("compiled") else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
        self.inputs, self.targets = (torch.from_numpy(x).to(self.device) for x in candidates.tokens_and_targets(job))
        self.tokens, self.flops, self.bytes = candidates.training_work(job, self.config)
        self.autocast = nullcontext() if job["dtype"] == "float32" else torch.autocast(self.device, self.dtype)

    def first_call(self):
        self.loss = self._gradients()

    def results(self):
        return candidates.named(self.loss, {name: p.grad for name, p in self.model.named_parameters()})

    def reference(self):
        loss, grads = candidates.reference_step(self.job, self.config)
        return candidates.named(loss, self.theirs(grads))

    def call(self):
        self._gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def _gradients(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            logits = self.logits(self.inputs)
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), self.targets.view(-1))
        loss.backward()
        return loss


class Generation(Peer):
    """A greedy text by ``generate`` of transformers, with its key-value cache."""

    def __init__(self, job, *built):
        super().__init__(job, *built)
        self.reference_label = repr((self.config, job["dtype"] == "float32"))
        self.model = self.forward = self.model.to(self.dtype).eval()
        self.prompt = torch.from_numpy(candidates.prompt())[None].to(self.device)
        self.tokens, self.flops, self.bytes = candidates.generation_work(job, self.config)

    def first_call(self):
        self.text = self.call()

    def results(self):
        with torch.no_grad():
            found = {"logits": sides.flatten(self.logits(self.prompt))["y"]}
        if self.job["dtype"] == "float32":
            found["tokens"] = self.text.cpu().numpy()
        return found

    def reference(self):
        return candidates.reference_text(self.job, self.config)

    def call(self):
        count = self.job["shape"]["tokens"]
        text = self.model.generate(
            self.prompt,
            attention_mask=torch.ones_like(self.prompt),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=0,
        )
        return text[0, candidates.PROMPT :]
