"""WordPiece (Schuster and Nakajima 2012; as used by BERT, arXiv:1810.04805): merges by likelihood, longest match first.

A token either begins a piece or goes on with one (BERT writes ##), and each byte has a token of both kinds, so that no
text is unknown. Training joins pairs as BPE does, but the pair that makes the text likelier, not the one that is more
frequent. The merges are then forgotten: encoding takes the longest token that fits, again and again.
"""

import math
from collections import Counter

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.bpe import BPE, merged
from numpy_ref.tokenizers.kinds import BYTES, WordPieceVocabulary
from numpy_ref.tokenizers.pretokenize import pattern as split_pattern
from numpy_ref.tokenizers.vocabulary import PLACES, checked_text, with_special


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None):
    """Learn a WordPieceVocabulary of ``vocab_size`` tokens from an iterable of str: 256 bytes that begin a piece, 256
    that go on, merges, special tokens.

    Under a unigram model of N tokens of which a occurs c(a) times, a joined pair takes the place of two independent
    tokens. To first order in c(ab) the log-likelihood gains

        c(ab) ln (c(ab) N / (c(a) c(b)))

    The pair that gains most is joined everywhere, from left to right; of equal ones that with the smallest ids, left
    before right. Training ends early when no pair occurs ``min_frequency`` times or none gains. No token is made twice.
    progress(done, total) hears of every merge.

    The gain is computed as c(ab) ((ln c(ab) + ln N) - (ln c(a) + ln c(b))) in float64, in this order.
    Raises UserError for a vocabulary too small for the bytes and the special tokens.
    """
    total = vocab_size - 2 * len(BYTES) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 512 bytes and {len(special)} special tokens come first; "
            f"give at least {512 + len(special)}"
        )
    pieces = Counter()
    for text in texts:
        pieces.update(split_pattern(pattern).findall(checked_text(text)))
    words = {_in_bytes(piece.encode()): count for piece, count in pieces.items()}
    tokens = [(token, goes_on) for goes_on in (False, True) for token in BYTES]
    while len(tokens) < 2 * len(BYTES) + total:
        pair = _best_pair(words, tokens, min_frequency)
        if pair is None:
            break
        words = {merged(word, pair, len(tokens)): count for word, count in words.items()}
        tokens.append(_joined(tokens, pair))
        if progress:
            progress(len(tokens) - 2 * len(BYTES), total)
    continuing = frozenset(i for i, (_, goes_on) in enumerate(tokens) if goes_on)
    return with_special(WordPieceVocabulary(tuple(token for token, _ in tokens), continuing, pattern), special)


def _in_bytes(data):
    """A piece as ids: a byte that begins, then bytes that go on."""
    return tuple(PLACES[byte] + len(BYTES) * (place > 0) for place, byte in enumerate(data))


def _joined(tokens, pair):
    """What a pair of ids makes: (bytes, whether it goes on with a piece)."""
    left, right = pair
    return tokens[left][0] + tokens[right][0], tokens[left][1]


def _best_pair(words, tokens, min_frequency):
    """The pair of ids that gains most, or None."""
    single, pairs = Counter(), Counter()
    for word, count in words.items():
        for token in word:
            single[token] += count
        for pair in zip(word, word[1:]):
            pairs[pair] += count
    logs, whole = {token: math.log(count) for token, count in single.items()}, math.log(max(1, single.total()))
    known, best = set(tokens), None
    for pair, count in pairs.items():
        gain = count * ((math.log(count) + whole) - (logs[pair[0]] + logs[pair[1]]))
        if count >= min_frequency and gain > 0 and _joined(tokens, pair) not in known:
            best = min(best or (-gain, pair), (-gain, pair))
    return best and best[1]


class WordPiece(BPE):
    """Text to token ids and back, by a WordPieceVocabulary. All but the cutting of a piece is as in BPE."""

    def _word(self, piece):
        """The ids of one piece: from its beginning, the longest token that fits, until nothing is left."""
        known, ids, start = self.vocabulary.ids, [], 0
        while start < len(piece):
            end = min(len(piece), start + self.vocabulary.longest)
            while piece[start:end] not in known:
                end -= 1
            ids.append(known[piece[start:end]])
            known, start = self.vocabulary.continuing_ids, end
        return ids
