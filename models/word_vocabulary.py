"""The vocabulary of whole words, learnt from the training part of a corpus. Training only."""

from collections import Counter
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import models, pre_tokenizers

from models.word_tokenizer import END, PADDING, START, UNKNOWN, WordEncoder, WordSettings


def word_level(vocabulary: Sequence[str]) -> tokenizers.Tokenizer:
    """A WordLevel tokenizer over `vocabulary`, whose order gives the ids; it must hold `[UNK]`.

    It reads what `WordEncoder.prepare` gives: words with white space between.
    """
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def learn_words(
    texts: Iterable[str],
    preparation: str,
    settings: WordSettings | None = None,
    *,
    max_size: int,
    min_count: int = 1,
    padding: bool = True,
    marks: bool = False,
) -> list[str]:
    """At most `max_size` tokens: `[PAD]` (unless left out), `[UNK]`, `[SOS]` and `[EOS]` (if asked for), then terms.

    Terms (words, and with `ngrams` their neighbours) occur `min_count` times in `texts` or more; the most frequent come
    first, those of one count by alphabet: the order of the texts does not matter. Reads texts as a `WordEncoder` does,
    but whole.
    """
    specials = [PADDING] * padding + [UNKNOWN] + [START, END] * marks
    reader = WordEncoder(word_level([UNKNOWN]), preparation, _NO_LIMIT, settings)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(reader.terms(text))
    frequent = sorted((-count, term) for term, count in counts.items() if count >= min_count and term not in specials)
    return [*specials, *(term for _, term in frequent[: max(0, max_size - len(specials))])]


_NO_LIMIT = 1 << 30  # words of a text
