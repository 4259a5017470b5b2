"""How good an answer is, measured against gold responses: words in, a number from 0 to 1 out.

    exact         the very same text
    exact_match   the same once case, punctuation, articles and white space are evened out
    f1            overlap of words
    rouge_l       the longest common subsequence of words
    bleu          overlap of 1 to 4 words in a row, over a whole corpus
    pass_at_k     the chance that one of k samples is right

Where there are several references the best counts.
"""

import math
import re
import string
from collections import Counter

from numpy_ref.errors import UserError

DEFINITION = "words are counted: no arrays"

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
WORDS = re.compile(r"\w+")
WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]")
SMOOTHINGS = ("exponential", "none")


def normalised(text):
    """A text as SQuAD compares it (arXiv:1606.05250, section 6.1): lower case, no punctuation, no a, an, the, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact(answer, references):
    """1.0 if the answer is one of the references, to the letter; else 0.0."""
    return float(answer in references)


def exact_match(answer, references):
    """1.0 if the answer is one of the references once both are ``normalised``; else 0.0."""
    return float(normalised(answer) in map(normalised, references))


def f1(answer, references):
    """The best harmonic mean of precision and recall of the normalised words, repeated ones counted (SQuAD).

    An answer or reference without words agrees with its like alone, as in SQuAD 2.0.
    """
    return max(_f1(normalised(answer).split(), normalised(reference).split()) for reference in references)


def rouge_l(answer, references, beta=1.0):
    """ROUGE-L (C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, equations 2 to 4).

        R = LCS / words of the reference      P = LCS / words of the answer      F = (1 + beta^2) R P / (R + beta^2 P)

    Words are lower case, runs of letters and digits, not stemmed.
    """
    said = WORDS.findall(answer.lower())
    best = 0.0
    for reference in references:
        wanted = WORDS.findall(reference.lower())
        common = common_subsequence(said, wanted)
        if common:
            recall, precision = common / len(wanted), common / len(said)
            best = max(best, (1 + beta**2) * recall * precision / (recall + beta**2 * precision))
        elif not said and not wanted:
            best = 1.0
    return best


def bleu(answers, references, order=4, smoothing="exponential"):
    """BLEU of a corpus (K. Papineni et al., 2002): answers[i] is compared with the list references[i].

        BLEU = BP exp(mean over n of ln p_n)         p_n = n-grams also in a reference / n-grams of the answers
        BP = min(1, exp(1 - r / c))                  c words of the answers, r of the references nearest in length

    Counts are summed over the corpus first: it is no mean over sentences. An n-gram counts as often as the reference
    that has it most often. An n for which no answer is long enough is left out. smoothing: an order without a match
    would make all 0; "exponential" lets it have half a match, the next such order a quarter (method 3 of B. Chen and
    C. Cherry, 2014, as in NIST's script); "none" does not. Words and punctuation marks are tokens; case counts.
    """
    if smoothing not in SMOOTHINGS:
        raise UserError(f"smoothing={smoothing!r} is not allowed; it must be one of {', '.join(SMOOTHINGS)}")
    matches, totals, said, wanted = [0] * order, [0] * order, 0, 0
    for answer, golden in zip(answers, references, strict=True):
        words, golden = WORDS_AND_MARKS.findall(answer), [WORDS_AND_MARKS.findall(one) for one in golden]
        said += len(words)
        wanted += min((abs(len(one) - len(words)), len(one)) for one in golden)[1]
        for n in range(1, order + 1):
            most = Counter()
            for one in golden:
                most |= _ngrams(one, n)
            found = _ngrams(words, n)
            matches[n - 1] += (found & most).total()
            totals[n - 1] += found.total()
    logs, halved = [], 1
    for match, total in zip(matches, totals):
        if total:
            halved *= 2 if match == 0 else 1
            share = match or (1 / halved if smoothing == "exponential" else 0)
            logs.append(math.log(share / total) if share else -math.inf)
    if not logs or not matches[0]:
        return float(said == wanted == 0)
    return min(1.0, math.exp(1 - wanted / said)) * math.exp(sum(logs) / len(logs))


def pass_at_k(samples, right, k):
    """The chance that at least one of k samples is right, where ``right`` of ``samples`` were (arXiv:2107.03374, eq. 1).

        1 - C(n - c, k) / C(n, k)

    Without bias for every k up to n; 1 - (1 - c / n)^k would be too low. Raises UserError for more than were sampled.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise UserError(
            f"pass@{k} of {samples} samples, {right} of them right, is not defined; k goes from 1 to {samples}"
        )
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def common_subsequence(first, second):
    """The length of the longest common subsequence of two lists.

    A bit for each place of ``first`` is 0 where the length grows; a whole row of the classic table is one addition of
    long numbers (M. Crochemore et al., 2001).
    """
    places = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    all_of_them = (1 << len(first)) - 1
    row = all_of_them
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & all_of_them
    return len(first) - row.bit_count()


def _f1(said, wanted):
    common = (Counter(said) & Counter(wanted)).total()
    if not said or not wanted:
        return float(said == wanted)
    return 2 * common / (len(said) + len(wanted))


def _ngrams(words, n):
    return Counter(zip(*(words[start:] for start in range(n))))
