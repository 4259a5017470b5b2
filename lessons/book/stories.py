"""Bugs that fooled good engineers: planted bugs that stand for real ones, each with where it happened and what catches it."""

import html
from dataclasses import dataclass

from lessons.book.components import file_of
from lessons.book.markdown import inline
from parity_tests.components import COMPONENTS


@dataclass(frozen=True)
class Story:
    """A planted bug (of a component, by name), what happened, where, and the input that shows it."""

    component: str
    bug: str
    title: str
    words: str
    seen: str  # project and number of the report
    shows: str  # what an input must have


STORIES = (
    Story(
        "cross_entropy", "mean of means", "A mean of means",
        "A batch that does not fit is cut into micro-batches, and each loss is a mean. Averaging those means is only right when every "
        "part has the same number of tokens that count. With padding or masked prompts it never has, and short texts get more weight "
        "than long ones. Losses looked plausible for years, as nobody compared them with the whole batch.",
        "huggingface/transformers #34191, OpenNMT-py #2209, volcengine/verl #906",
        "micro-batches with unequal numbers of valid tokens",
    ),
    Story(
        "cross_entropy", "target gradient rounded before the subtraction", "Rounded before the subtraction",
        "The gradient at the target is p - 1. When the model is sure, p is 0.999; rounded to bfloat16 it is 1, and the gradient is "
        "0 instead of -0.001. An error of 100 %, but only where the model is good. Tests drew random logits, for which p is small.",
        "linkedin/Liger-Kernel #1268",
        "targets of which the model is sure",
    ),
    Story(
        "cross_entropy", "one gradient for all tokens", "The gradient of the first token for all",
        "A fused loss took `grad_output[0]` for the whole gradient that arrives. Every test called `backward()` on a sum or a mean, "
        "where all of them are equal.",
        "linkedin/Liger-Kernel #1298",
        "a random cotangent, never ones",
    ),
    Story(
        "rotary", "pairs of the other convention", "Two conventions of RoPE",
        "Pairs are (i, i + d/2) in Llama and (2i, 2i + 1) in GPT-J. Weights of one with code of the other load without an error and "
        "write text that begins well: at position 0 nothing turns, so the first token is right.",
        "huggingface/transformers #25199, Lightning-AI/litgpt #1860, huggingface/nanotron #427",
        "more than two positions and at least four features",
    ),
    Story(
        "rope_frequencies", "scaling parsed but not applied", "Read from the file, never used",
        "The setting for long texts was read from the configuration and then forgotten. On texts of ordinary length the model is the same.",
        "TransformerLens #910, ml-explore/mlx-lm #1553",
        "a configuration that is not the default one",
    ),
    Story(
        "scaled_dot_product_attention", "causal mask aligned at the start", "Which corner is the mask aligned to?",
        "With as many queries as keys a causal mask is a triangle. With a cache there are more keys, and the triangle can sit at the "
        "first key or at the last one. The first choice lets a new token see only the oldest keys. PyTorch's own flag means the first.",
        "Dao-AILab/flash-attention #282, pytorch/pytorch #108108",
        "different numbers of queries and keys",
    ),
    Story(
        "scaled_dot_product_attention", "key heads tiled, not repeated", "Heads dealt out in the wrong order",
        "Four query heads on two keys: the first two read the first key. Tiling gives them out in turn instead. With a single key head "
        "both are the same, which is what many tests use.",
        "onnx/onnx #7274, apple/axlearn #842",
        "at least two key heads, each read by at least two",
    ),
    Story(
        "scaled_dot_product_attention", "softcap left out of the backward", "Forward bent, backward straight",
        "A soft cap on the scores was added to the forward kernel; the backward kernel went on without its slope. Training runs, a bit worse.",
        "Dao-AILab/flash-attention #1033",
        "a cap that is small beside the scores",
    ),
    Story(
        "softmax", "hidden row is 0/0", "A row that may look nowhere",
        "Padding can leave a query with no key at all. Its softmax is 0/0, one NaN, and in the backward pass that NaN reaches every weight.",
        "pytorch/pytorch #41508, ml-explore/mlx #2608",
        "a row in which everything is masked",
    ),
    Story(
        "visible_keys", "window of W + 1", "A window of how many?",
        "Does a window of W count the token itself? Two kernels behind one option answered differently, so a model saw one token more on one "
        "machine than on another.",
        "huggingface/transformers #39408, vllm-project/vllm #3385",
        "texts longer than the window, and a window of 1",
    ),
    Story(
        "document_positions", "positions go on", "Packed, but counted through",
        "Several documents share a row and are hidden from each other, but positions go on from one to the next: the second document begins "
        "in the middle of a text that it cannot see.",
        "hiyouga/LLaMA-Factory #7318, huggingface/transformers #46634",
        "packed texts, compared with the same texts alone",
    ),
    Story(
        "layer_norm", "variance in one pass", "The variance that cancels",
        "mean(x^2) - mean(x)^2 needs one pass instead of two, and is right on paper. Where the mean is large two nearly equal numbers are "
        "subtracted. Random test data has mean 0.",
        "microsoft/onnxruntime #28463, ml-explore/mlx #2238",
        "a mean far above the spread",
    ),
    Story(
        "layer_norm", "eps outside the root", "Inside or outside of the root?",
        "sqrt(v + eps) and sqrt(v) + eps differ only where v is about as small as eps: in rows that are nearly constant.",
        "pytorch/pytorch #22617 and others",
        "rows that hardly vary",
    ),
    Story(
        "gelu", "tail by 1 + erf", "Nothing left of the tail",
        "x (1 + erf(x / sqrt 2)) / 2 adds 1 and a number close to -1. For x below -5 no digit is right, and the gradient is noise.",
        "tenstorrent/tt-metal #56604",
        "inputs between -9 and -2, judged one by one",
    ),
    Story(
        "embedding", "a repeated token keeps one gradient", "+= that adds once",
        "`dweight[tokens] += dy` writes each index once. The table learns, but frequent tokens learn like rare ones.",
        "anyone who wrote this in NumPy",
        "a token that occurs twice",
    ),
    Story(
        "adamw", "eps before the bias correction", "Where does eps go?",
        "eps is added to the root of the corrected second moment. Added before the correction it is multiplied by up to thirty in the first "
        "steps. With gradients of ordinary size nobody can see it.",
        "karpathy/nanochat #304, pytorch/pytorch #22628",
        "the first step, and gradients as small as eps",
    ),
    Story(
        "adamw", "coupled decay", "The decay that hardly decays",
        "With the decay inside the gradient, Adam divides it by the gradient's size: weights with large gradients are hardly decayed. It took a "
        "paper to notice, and then years until all codes had it right.",
        "arXiv:1711.05101; bitsandbytes #2010 for a later one",
        "a large decay, gradients of different size",
    ),
    Story(
        "probabilities", "crossing token dropped", "The token that crosses the line",
        "top-p keeps tokens until their mass reaches p. Is the one that crosses it in or out? Out means that the mass kept is always too "
        "small, and nothing is left when the first token alone is above p.",
        "ggml-org/llama.cpp #1953",
        "a p strictly inside a token's share",
    ),
    Story(
        "bpe encode", "the first pair that fits", "Longest first, or first learnt first?",
        "To encode is to replay the merges in the order in which they were learnt. Joining whatever fits first gives a valid text of valid tokens "
        "that the model has hardly ever seen.",
        "rasbt/LLMs-from-scratch #558",
        "merges that compete for the same letters",
    ),
    Story(
        "linear_cross_entropy", "targets of the first chunk for all", "Only the first chunk was tested",
        "A loss that works through the tokens in chunks took the labels of the wrong slice. Test batches fitted into one chunk.",
        "linkedin/Liger-Kernel #330",
        "more tokens than one chunk",
    ),
    Story(
        "write_cache", "offset by the number of entries kept", "Positions after something was dropped",
        "A cache that forgets old entries counted positions by what it still held. Every rotation after that was by the wrong angle.",
        "reported in several cache implementations, e.g. ComfyUI #15698",
        "decoding beyond the window, compared with the full forward pass",
    ),
    Story(
        "balance_loss", "double softmax", "A softmax of a softmax",
        "The loss that keeps experts busy takes the router's probabilities. It was given what had been through a softmax once already, and put it "
        "through another: all probabilities come out nearly alike, and the loss hardly asks for anything.",
        "huggingface/transformers #45120",
        "scores that are far from equal",
    ),
    Story(
        "whiten", "shift_mean inverted (torchtune)", "A flag the wrong way round, and its test with it",
        "`shift_mean=True` is to centre the advantages; in one library it did the opposite. Its test had been written from the code and agreed. "
        "Two implementations from one misreading always do: what catches it is somebody else's oracle, or the definition.",
        "pytorch/torchtune, rlhf/rewards.py",
        "values whose mean is not 0",
    ),
    Story(
        "token_rewards", "score on the first padding (TRL)", "The reward beside the answer",
        "The score of a whole answer belongs to its last token, where the policy decided to stop. It was put on the next place, the first token of the "
        "padding, where the critic has never learnt anything.",
        "huggingface/trl #3750",
        "answers that are shorter than their row",
    ),
    Story(
        "gae", "a masked value leaks into the token before (ROLL)", "What a mask hides, and still counts",
        "A conversation has turns of others between those of the policy. Their tokens were masked, but the critic's values at them were "
        "not: in the report, a value of 100 behind the mask makes 5.7 of an advantage that is 0.95.",
        "alibaba/ROLL #447",
        "gaps in the mask, with anything at all behind them",
    ),
    Story(
        "kl_estimate", "clamped: no gradient far out (verl)", "Safe from overflow, and deaf",
        "exp(-d) overflows where the policy has all but forgotten a token, so d was clamped. A clamp has no gradient: exactly the tokens that are "
        "furthest from the reference are no longer pulled back.",
        "volcengine/verl and huggingface/trl #3015 for the overflow",
        "log-ratios beyond the clamp, and a look at the gradient",
    ),
    Story(
        "group_advantages", "what rounding leaves of equal rewards (NeMo-RL)", "A rounding error divided by another",
        "All eight answers have the reward 0.1. Their mean in float32 is not exactly 0.1, their deviation is not exactly 0, and the quotient of two "
        "rounding errors was, in the report, an advantage of 7428.",
        "NVIDIA-NeMo/RL #4161",
        "groups whose rewards are all equal",
    ),
    Story(
        "token_logprobs", "temperature forgotten (policy-gradients scores at 1 what it samples at 0.6)", "Drawn from one, scored by another",
        "Answers are drawn at temperature 0.6 and scored at 1. The first ratio of PPO is then not 1, and every update corrects for a difference "
        "that is none.",
        "several training codes; PrimeIntellect-ai/prime-rl #679 for another",
        "a temperature other than 1",
    ),
    Story(
        "reward_model", "read at the last column", "The reward of the padding",
        "A reward is read at a text's last token. The last column of a batch is that for the longest text alone; for the others it is "
        "padding, and the reward is that of how much padding there was.",
        "huggingface/trl #937 and #2778, huggingface/transformers #35352",
        "texts of different lengths in one batch",
    ),
    Story(
        "arc", "acosh of cosh", "Near points at distance 0",
        "Hyperbolic distance is acosh(1 + 2h). For near points 2h is lost beside the 1, the distance is 0, and its gradient is 0/0. "
        "2 asinh(sqrt(h)) is the same number, with all its digits.",
        "geoopt/geoopt #65 and #79",
        "points that nearly coincide",
    ),
)


def html_of(caught):
    """The page. caught: {(component, bug): words} of the property that fails."""
    components = {one.name: one for one in COMPONENTS}
    body = [
        "<h1>Bugs that fooled good engineers</h1>",
        "<p>Hardly one of these made a program crash. Most passed the tests of their time, in code that many people used. Each stands in this project as a <em>planted bug</em>: a change to the source that the suite has to notice. What they have in "
        "common is the input that shows them: ordinary random numbers don't.</p>",
    ]
    for story in STORIES:
        component = components[story.component]
        bug = next(bug for bug in component.bugs if bug.name == story.bug)
        change = f"<del>{html.escape(bug.old.strip())}</del>\n<ins>{html.escape(bug.new.strip())}</ins>"
        body.append(
            f"<h2>{html.escape(story.title)}</h2><p>{inline(story.words)}</p>"
            f"<p class='note'>planted in <a href='{file_of(component)}'><code>{html.escape(component.name)}</code></a>:</p><pre>{change}</pre>"
            f"<p><strong>What catches it:</strong> {html.escape(caught.get((component.name, bug.name)) or 'the suite')}, given {html.escape(story.shows)}.</p>"
            f"<p class='note'>Seen in {inline(story.seen)}.</p>"
        )
    return "\n".join(body)
