"""Exercises of lesson 2: from bytes to a loss, from a loss to better weights, from weights to text."""

from dataclasses import replace

import numpy as np

from lessons.exercise import Exercise
from parity_tests.components.adamw import ADAMW
from parity_tests.components.batches import WINDOWS
from parity_tests.components.byte import ENCODE
from parity_tests.components.clipping import CLIP
from parity_tests.components.losses import CROSS_ENTROPY
from parity_tests.components.sampling import PROBABILITIES, SAMPLE
from parity_tests.components.schedules import SCHEDULE
from parity_tests.harness.declaration import Bug

KIND = ("one", "small", "sixteen", "ties", "constant", "zero")


def draw_cross_entropy(source):
    """Some targets ignored, logits of any size, the mean over those that count."""
    shape, vocabulary = (*source.leading(1), source.size(9)), source.size(17, least=2)
    targets = source.tokens(shape, vocabulary)
    ignored = source.choice("none", "none", "some", "all")
    if ignored != "none":
        targets = np.where(source.rng.random(shape) < (1 if ignored == "all" else 0.4), -100, targets)
    logits = source.array("logits", (*shape, vocabulary), (*KIND, "above exp"))
    return source.case({"logits": logits, "targets": targets.astype(np.int64)}, ignore_index=-100)


def draw_top_p(source):
    vocabulary = source.size(17, least=2)
    logits = source.array("logits", (*source.leading(1), vocabulary), ("one", "sixteen", "ties"))
    return source.case({"logits": logits}, temperature=source.choice(0.5, 1.0, 2.0), top_p=source.choice(0.1234, 0.5678, 0.9, 1.0))


EXERCISES = (
    Exercise(
        name="02_encode",
        title="Text to bytes",
        component=ENCODE,
        minutes=5,
        hints=(
            "str.encode knows UTF-8; np.frombuffer reads bytes as an array of uint8.",
            "An array from np.frombuffer can't be written to: copy it.",
            "Half a surrogate pair is no character: catch UnicodeEncodeError and raise UserError with a line that says where.",
        ),
        mistakes={
            "Latin-1": "Latin-1 has 256 characters; all others were lost. The encoding is UTF-8.",
            "16 bits": "every character became two bytes; the encoding is UTF-8.",
            "surrogates let through": "half a surrogate pair was written as if it were a character; that must be a UserError.",
            "space trimmed": "white space at the ends is text like any other.",
            "line ends changed": "\\r\\n became \\n: a tokenizer must not change the text.",
            "marks composed": "the text was normalised: a letter and its mark became one character. A tokenizer must not change the text.",
        },
    ),
    Exercise(
        name="02_windows",
        title="How many training windows a text has",
        component=WINDOWS,
        minutes=10,
        hints=(
            "A window has context inputs, and a target for the last of them: how many tokens is that?",
            "Window number k begins at k * stride and needs context + 1 tokens from there on.",
            "The last start is length - context - 1; there are (length - context - 1) // stride + 1 starts, and never less than none.",
        ),
        mistakes={
            "no token for the last target": "the last input needs a target as well: a window takes context + 1 tokens.",
            "last window left out": "the first window starts at 0, so one more fits than the quotient says.",
            "stride ignored": "windows begin every `stride` tokens, not at each one.",
            "fewer than none": "a text that is too short has 0 windows, not a negative number of them.",
        },
    ),
    Exercise(
        name="02_cross_entropy",
        title="Cross-entropy, forward",
        component=replace(CROSS_ENTROPY, draw=draw_cross_entropy),
        minutes=20,
        value_only=True,
        hints=(
            "The loss of a token is logsumexp(logits) - logits[target].",
            "Subtract the largest logit of each row first, from both terms: it cancels, and exp cannot overflow any more.",
            "Targets that are ignore_index count for nothing: take 0 as their index, then set their loss to 0.",
            "The mean is over the tokens that count, and over 1 where none does.",
        ),
        mistakes={
            "ignored tokens counted": "the mean is over the tokens that count; the ignored ones were counted as well.",
            "0/0 when all are ignored": "where every token is ignored the loss is 0, not 0/0.",
            "ignored tokens have a loss": "ignored tokens must not add to the loss.",
            "maximum not subtracted": "exp overflows for logits of a few hundred: subtract each row's largest first.",
            "logarithm of 0 averted": "a small number was added inside the logarithm. It is not needed once the largest logit is subtracted, and it changes the loss.",
            Bug("base 2", "numpy", "np.log(total)", "np.log2(total)"): "the loss is in nats: the natural logarithm, not that to base 2.",
        },
    ),
    Exercise(
        name="02_cross_entropy_backward",
        title="Cross-entropy, backward",
        component=replace(CROSS_ENTROPY, draw=draw_cross_entropy),
        minutes=20,
        hints=(
            "d logsumexp / d logits_j = softmax_j. And d logits[target] / d logits_j = [j = target].",
            "So each token's gradient is p - onehot(target), times dy, divided by the number of tokens that count.",
            "Ignored tokens have no gradient at all: multiply by whether they count.",
        ),
        mistakes={
            "gradient not divided": "the loss is a mean, so each token's gradient is divided by the number of tokens that count.",
            "ignored tokens have a gradient": "ignored tokens must have no gradient.",
            Bug("target not subtracted", "numpy", "dx[row, target] -= (1.0 - label_smoothing) * dloss", "pass"): (
                "the target's logit raises its own probability: 1 must be subtracted at the target."
            ),
            Bug("dy forgotten", "numpy", 'dy = dy / denominator if reduction == "mean" else dy', "dy = 1 / denominator + 0 * dy"): (
                "the gradient must be multiplied by dy, which is not always 1."
            ),
            Bug("sign", "numpy", "return dx.reshape(logits.shape)", "return -dx.reshape(logits.shape)"): "the sign is wrong: it is p - onehot(target).",
        },
    ),
    Exercise(
        name="02_clip",
        title="Clipping by the global norm",
        component=CLIP,
        minutes=10,
        hints=(
            "All gradients together are one long vector: the norm is the root of the sum of all squares.",
            "If it is longer than max_norm, every gradient is multiplied by max_norm / norm, else by 1: np.minimum(1, max_norm / norm).",
            "np.minimum lets a NaN through, and that is wanted: a broken step is to be seen. A norm of 0 divides by 0: allow it.",
        ),
        mistakes={
            "clipped by value": "each number was clipped by itself, which turns the gradient; all must be shortened by the same factor.",
            "each gradient by its own norm": "there is one norm for all gradients together; each was shortened by its own.",
            "short gradients stretched": "gradients shorter than max_norm stay as they are.",
            "norm after clipping": "the norm that is returned is the one before clipping: it is logged.",
            "1e-6 added to the norm": "something small was added to the norm; it is not needed, and makes small norms wrong.",
            "NaN hidden": "a NaN norm must stay NaN, so that the broken step is seen.",
            "norm squared": "the factor is max_norm / norm; the norm was squared.",
        },
    ),
    Exercise(
        name="02_warmup_cosine",
        title="The learning rate over a run",
        component=SCHEDULE,
        minutes=15,
        hints=(
            "Three phases: warm-up (step < warmup), cosine, and what comes after the run (step >= steps).",
            "Steps count from 0 and the first one already moves: peak * (step + 1) / warmup.",
            "t goes from 0 at the end of the warm-up to 1 at the end of the run: (step - warmup) / (steps - warmup).",
            "The cosine goes from peak to final * peak: peak * (final + (1 - final) * (1 + cos(pi t)) / 2). After the run: final * peak.",
        ),
        mistakes={
            "warm-up from 0": "the first step has rate 0 and is lost: (step + 1) / warmup.",
            "warm-up never reaches the peak": "the last step of the warm-up has the peak rate: divide by warmup.",
            "cosine over the whole run": "the cosine begins when the warm-up ends, not at step 0.",
            "cosine one step too fast": "t reaches 1 one step too early: divide by steps - warmup.",
            "cosine one step ahead": "the first step after the warm-up has t = 0, the whole peak.",
            "final rate not a share of the peak": "`final` is a share of the peak, not a rate.",
            "sinks to nothing, then jumps": "the cosine falls to final * peak, not to 0.",
        },
    ),
    Exercise(
        name="02_adamw",
        title="AdamW",
        component=ADAMW,
        minutes=25,
        hints=(
            "Count the step first: state['step'] is how many there have been, the corrections use the number of this one.",
            "m and v are moving averages of the gradient and of its square, with beta1 and beta2.",
            "Both began at 0: divide m by 1 - beta1^t and v by 1 - beta2^t.",
            "Decay multiplies the parameter by 1 - lr * weight_decay; then subtract lr * mhat / (sqrt(vhat) + eps).",
        ),
        mistakes={
            "eps before the bias correction": "eps is added to the root of the *corrected* second moment.",
            "eps inside the root": "eps stands outside the root: sqrt(vhat) + eps.",
            "no eps": "eps is missing: a gradient of 0 gives 0 / 0.",
            "coupled decay": "the decay was put into the gradient, where it is divided by sqrt(v): that is Adam with L2, not AdamW.",
            "decay of the updated parameter": "the parameter before the step is decayed, not the one after it.",
            "decay without the learning rate": "the decay of a step is lr * weight_decay.",
            "decay of the wrong sign": "decay makes weights smaller: 1 - lr * weight_decay.",
            "first moment not corrected": "m begins at 0 and is too small at first: divide it by 1 - beta1^t.",
            "second moment not corrected": "v begins at 0 and is too small at first: divide it by 1 - beta2^t.",
            "bias corrected as on the step before": "the first step has t = 1, not 0.",
            "step not counted": "the step must be counted: the new state has one more.",
        },
    ),
    Exercise(
        name="02_top_p",
        title="Temperature and nucleus sampling",
        component=replace(PROBABILITIES, draw=draw_top_p),
        minutes=25,
        hints=(
            "Divide the logits by the temperature first, then take the softmax, in float64.",
            "Sort from the likeliest on; a stable sort of -logits keeps the lower id first among equals.",
            "A token stays while the mass *before* it is below top_p: so the one that crosses the border stays, and the likeliest always does.",
            "Bring the decision back to the order of ids (argsort of the order), zero the others, and divide by what is left.",
        ),
        mistakes={
            "temperature forgotten": "the logits must be divided by the temperature.",
            "temperature multiplies": "the temperature divides the logits: below 1 it makes the distribution sharper.",
            "crossing token dropped": "the token whose mass crosses top_p stays: look at the mass before it.",
            "mass in the order of ids": "the mass is added up from the likeliest token on, not in the order of ids.",
            "not renormalised": "what is left must be divided by its sum: probabilities sum to 1.",
            "of equals the highest id": "among tokens that are equally likely the lower id comes first.",
        },
    ),
    Exercise(
        name="02_sample",
        title="From probabilities to a token",
        component=SAMPLE,
        minutes=10,
        hints=(
            "Add the probabilities up: the token is the first at which the sum exceeds the uniform number.",
            "A token of probability 0 must never come out, also for uniform = 0: > and not >=.",
            "The sum is not exactly 1: multiply the uniform number by the whole sum. Sum in float64.",
        ),
        mistakes={
            ">= instead of >": "with uniform = 0 a token of probability 0 came out: the sum must *exceed* the threshold.",
            "total taken for 1": "the probabilities don't sum to exactly 1: multiply the uniform number by their sum.",
            "mass before the token": "a token's own probability belongs to the sum that is compared.",
            "next token": "the token is the first at which the sum exceeds the threshold, not the one after it.",
            "uniform the other way round": "small uniform numbers choose the first tokens; here they choose the last.",
        },
    ),
)
