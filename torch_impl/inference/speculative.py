"""Speculative decoding (arXiv:2211.17192, arXiv:2302.01318): cheap guesses, checked by the model several at a time."""

import torch

from numpy_ref.errors import UserError
from torch_impl.inference import sampling
from torch_impl.inference.cached import cached_transformer
from torch_impl.model.kv_cache import init_cache, rewind
from torch_impl.rng import STREAM_SAMPLE, uniform


def ngram_proposal(tokens, ahead, longest=3):
    """Prompt lookup (arXiv:2304.04487 §2): the ids that followed the latest earlier copy of the text's own end.

    The end is tried with ``longest`` tokens, then with fewer. tokens: list of ids -> list of at most ``ahead``.
    """
    last = len(tokens)
    for size in range(min(longest, last - 1), 0, -1):
        end = tokens[-size:]
        for stop in range(last - 1, size - 1, -1):  # where an earlier copy ends
            if tokens[stop - size : stop] == end:
                return tokens[stop : stop + ahead]
    return []


def accept(target, draft, tokens, uniforms):
    """Modified rejection sampling (arXiv:2302.01318 theorem 1): (number of guesses that stay, token that follows).

    Guess i stays while uniforms[i] < target[i, x] / draft[i, x]. At the first that goes, the token is drawn from
    the positive part of target - draft there; if none goes, from the last target.

    Shapes: target (k + 1, V), draft (k, V) float64, tokens list of k ids, uniforms (k + 1,), the last for the draw.
    """
    place = torch.arange(len(tokens))
    guesses = torch.as_tensor(tokens, dtype=torch.int64)
    stays = uniforms[: len(tokens)] * draft[place, guesses] < target[place, guesses]
    count = int(stays.long().cumprod(0).sum())
    rest = target[count]
    if count < len(tokens):
        rest = (rest - draft[count]).clamp(min=0)
    return count, int(sampling.sample(rest, uniforms[-1]))


@torch.inference_mode()
def speculative_generate(
    params, config, prompt, sample, draft=None, ahead=4, longest=3, stop=(), on_token=None, counts=None
):
    """One text by guessing ``ahead`` tokens and checking them in one pass: distributed as by ``generate``.

    draft: (params, config) of the model that guesses; None looks guesses up in the text (``ngram_proposal``). counts: a
    dict for the numbers of "steps", "proposed" and "accepted". Elements j (2 ahead + 1) and on of the sampling stream
    belong to round j: ahead + 1 for ``accept``, the rest for the draft. -> (m,) int64 on the CPU.
    UserError for a draft of another vocabulary, an empty prompt, or ahead < 1.
    """
    _checked(config, draft, ahead, prompt)
    text = torch.as_tensor(prompt).tolist()
    text = text if config.endless else text[-config.context :]
    room = len(text) + sample.tokens + ahead if config.endless else config.context
    judge = _Follower(params, config, sample, ahead + 1, room)
    guesser = None if draft is None else _Follower(*draft, sample, ahead + 1, max(room, draft[1].context))
    counts = counts if counts is not None else {}
    counts.update(steps=0, proposed=0, accepted=0)
    new = []
    while len(new) < sample.tokens:
        if not config.endless and len(text) > config.context:
            text = text[-max(1, config.context // 2) :]
        most = min(ahead, sample.tokens - len(new) - 1, ahead if config.endless else config.context - len(text))
        first = counts["steps"] * (2 * ahead + 1)
        draws = uniform(sample.seed, STREAM_SAMPLE, (2 * ahead + 1,), offset=first)
        if guesser and most > 0:
            tokens, chances = _drawn(guesser, text, min(most, guesser.config.context - 1), draws[ahead + 1 :])
        else:
            tokens = ngram_proposal(text, most, longest) if most > 0 and not guesser else []
            chances = torch.nn.functional.one_hot(torch.tensor(tokens, dtype=torch.int64), config.vocab_size).double()
        target = judge.distributions(text + tokens, len(tokens) + 1)
        kept, following = accept(target, chances, tokens, draws[: len(tokens) + 1])
        counts["steps"] += 1
        counts["proposed"] += len(tokens)
        counts["accepted"] += kept
        for token in (*tokens[:kept], following):
            if token in stop:
                return torch.tensor(new, dtype=torch.int64)
            new.append(token)
            text.append(token)
            if on_token:
                on_token(0, token)
    return torch.tensor(new, dtype=torch.int64)


def distribution(logits, sample):
    """Probabilities that the sampling options give to logits, float64 on the CPU; greedy ones are 0 and 1.

    Shapes: (n, V) -> (n, V).
    """
    if sample.greedy:
        return torch.nn.functional.one_hot(sampling.greedy(logits), logits.shape[-1]).double().cpu()
    return sampling.probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p).cpu()


class _Follower:
    """A model whose cache is kept in step with a text that grows, and now and then loses its end."""

    def __init__(self, params, config, sample, slack, room):
        self.params, self.config, self.sample, self.slack, self.room = params, config, sample, slack, room
        self.weight, self.read, self.cache = params["token_embedding.weight"], [], None

    def distributions(self, text, count):
        """Of the next token after each of the last ``count`` tokens of the text. -> (count, V)."""
        shared, most = 0, min(len(self.read), len(text) - count)
        while shared < most and self.read[shared] == text[shared]:
            shared += 1
        if self.cache is None or len(self.read) - shared > self.slack:
            device, shared = self.weight.device, 0
            self.cache = init_cache(self.config, 1, self.room, self.weight.dtype, self.slack, device)
        self.cache = rewind(self.cache, torch.tensor([shared], device=self.weight.device))
        tokens = torch.tensor([text[shared:]], device=self.weight.device)
        logits, self.cache = cached_transformer(tokens, self.params, self.config, self.cache)
        self.read = list(text)
        return distribution(logits[0, -count:], self.sample)


def _drawn(guesser, text, count, draws):
    """``count`` tokens that the draft model draws in a row, and the distributions it drew them from (count, V)."""
    if not guesser.config.endless:
        text = text[-max(1, guesser.config.context - count) :]
    tokens, chances = [], []
    for draw in draws[:count]:
        chances.append(guesser.distributions(text + tokens, 1)[0])
        tokens.append(int(sampling.sample(chances[-1], draw)))
    return tokens, torch.stack(chances) if chances else torch.zeros(0, guesser.config.vocab_size, dtype=torch.float64)


def _checked(config, draft, ahead, prompt):
    if ahead < 1:
        raise UserError(f"ahead={ahead} must be at least 1: the number of tokens guessed a round")
    if len(prompt) == 0:
        raise UserError("the prompt is empty; give at least one token")
    if draft is not None and draft[1].vocab_size != config.vocab_size:
        raise UserError(
            f"the draft model's vocabulary of {draft[1].vocab_size} differs from the model's {config.vocab_size}; "
            "take a draft model with the same tokenizer"
        )
