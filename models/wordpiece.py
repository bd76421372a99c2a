"""WordPiece for printable ASCII: what the `tokenizers` library gives, for one word at a fifth of a call's time."""

import re

import tokenizers
from tokenizers import models, normalizers

_RUN = re.compile(r"[0-9A-Za-z]+|[!-~]")  # BertPreTokenizer: each punctuation mark stands alone


class AsciiWordPiece:
    """Ids of words over the vocabulary of a tokenizer of WordPiece, BertNormalizer and BertPreTokenizer."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        model, normalizer = tokenizer.model, tokenizer.normalizer
        assert isinstance(model, models.WordPiece)
        assert isinstance(normalizer, normalizers.BertNormalizer)
        vocabulary = tokenizer.get_vocab()
        prefix = model.continuing_subword_prefix
        self.starts = vocabulary
        self.followers = {token.removeprefix(prefix): i for token, i in vocabulary.items() if token.startswith(prefix)}
        self.unknown = [vocabulary[model.unk_token]]
        self.max_chars: int = model.max_input_chars_per_word
        self.is_lower: bool = normalizer.lowercase

    def ids_of(self, word: str) -> list[int] | None:
        """Ids of a word without white space, or None for one that is not printable ASCII."""
        if not (word.isascii() and word.isprintable()):
            return None
        runs = _RUN.findall(word.lower() if self.is_lower else word)
        return [i for run in runs for i in self._ids_of_run(run)]

    def _ids_of_run(self, run: str) -> list[int]:
        """Longest tokens first, from the left (arXiv:1609.08144)."""
        whole = self.starts.get(run)
        if len(run) > self.max_chars:
            return self.unknown
        if whole is not None:
            return [whole]
        ids: list[int] = []
        begin, known = 0, self.starts
        while begin < len(run):
            end = len(run)
            while end > begin and run[begin:end] not in known:
                end -= 1
            if end == begin:
                return self.unknown
            ids.append(known[run[begin:end]])
            begin, known = end, self.followers
        return ids
