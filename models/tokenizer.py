"""Text to token ids: the closed list of preparations, and the encoder that reads what they leave.

A preparation is a total function from any str (NUL, lone surrogates, 20,000 characters) to clean text. A bundle's
manifest names one of them, never code. Placeholders and emoji become words that begin with `xx` and stand in the
vocabulary whole.
"""

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from models.manifest import read_json
from models.tokens import Tokens

Int32Array = npt.NDArray[np.int32]

UNKNOWN = "[UNK]"
MAX_CLIP_CHARS = 1_000  # kept from each end of a longer text: twice what any token limit here can use
MAX_CACHED_WORDS = 200_000
MAX_CACHED_CHARS = 40

# One token per feeling and not per emoji: tweets of 2009 to 2015 hold too few emoji to learn each by itself.
EMOJI_FEELINGS: Mapping[str, str] = {
    "xxlove": "😍🥰😘😻❤♥💕💖💗💓💞💝💘💙💚💛💜🧡🤍🤎🖤💑💋😚😙🤗🫶🩷🥹",
    "xxjoy": "😊🙂😀😃😄😁☺😇😋😌🤩😺😸🌞🌈☀💃🕺🤠😏🤭",
    "xxlaugh": "😂🤣😆😅😹",
    "xxwink": "😉😜😝😛🤪😎",
    "xxcelebrate": "🎉🥳👏🙌🎊🏆🥇💪🎁🎂🍾🥂🙆⭐🌟✨🚀",
    "xxgreat": "👍👌🔥💯✅✔🤌🤟🤘💎👑🐐🆒",
    "xxthanks": "🙏🤝💐🌹🌸🌷🌻",
    "xxsad": "😢😭😞😔☹🙁😥😪😟😣😖😿💔😩😫😓🥺🥲😕😦😧🥀",
    "xxangry": "😡🤬😠👿😤🖕💢😾",
    "xxdisgust": "🤢🤮💩🤡🗑😷🤧🚮",
    "xxbad": "👎❌🚫⛔🤦💀☠🐌",
    "xxfear": "😱😨😰😳😵🤯😬",
    "xxbored": "🙄😒😑😐😴🥱💤🤨",
    "xxthink": "🤔🧐🤷❓❔😶🤫",
}
EMOTICONS: Mapping[str, str] = {
    "xxjoy": r"[:=][-o^']?[)\]D}]+|\(-?[:=]|\^_*\^",
    "xxsad": r"[:=]['\u2019]?[-o^']?[(\[{]+|\)-?[:=]|D[:=]|T_T|;_;",
    "xxwink": r";[-o^]?[)\]D]+|[:=;][-o^]?[pPb](?!\w)",
    "xxlaugh": r"\b[xX]-?D+\b",
    "xxbored": r"[:=]-?[/\\|](?!/)|-_+-",
    "xxlove": r"<3+|&lt;3",
    "xxbad": r"</3+",
}
PLACEHOLDERS = ("xxuser", "xxlink", "xxemoji", *EMOJI_FEELINGS)

_FEELING_OF = {emoji: feeling for feeling, group in EMOJI_FEELINGS.items() for emoji in group}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LINK = re.compile(
    r"(?:https?:/+|www\.)\S+|\bhttps?\b:?|\b[\w-]{1,60}\.(?:com|co|net|org|ly|me|gl|it|uk|de|eu)/\S*", re.IGNORECASE
)
_MENTION = re.compile(r"(?<![\w.])@\w+")
_HASHTAG = re.compile(r"#(\w+)")
_HASHTAG_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z\d_]+|\d+|[^\W_]")
_LETTER_RUN = re.compile(r"([^\W\d_])\1{2,}")
_MARK_RUN = re.compile(r"([!?*,=~_\-+#$])\1{2,}")
_DOTS = re.compile(r"\.{2,}|…+")
_QUOTE = re.compile("[`\u00b4\u2018\u2019\u02bc]")
_NOT = re.compile(
    r"\b(ca|wo|sha|do|did|does|is|was|are|were|have|has|had|could|would|should|must|need|ai)n'?t\b", re.IGNORECASE
)
_CLITIC = re.compile(r"(?<=\w)'(?=(?:s|m|re|ve|ll|d)\b)", re.IGNORECASE)
_FULL_VERB = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{1,2}")
_INVISIBLE = re.compile(
    "[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff\u20e3\U0001f3fb-\U0001f3ff\U000e0000-\U000e007f]+"
)
_EMOJI = re.compile(
    "[\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u2600-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff♥]"
)
_EMOTICON = re.compile(
    "(?<!\\w)(?:" + "|".join(f"(?P<{feeling}>{marks})" for feeling, marks in EMOTICONS.items()) + ")"
)
_FEELING_RUN = re.compile(r"\b(xx[a-z]+)(?:\s+\1\b){2,}")


def _clip(text: str) -> str:
    """The first and last `MAX_CLIP_CHARS` characters of a longer text: what a post concludes is often at its end."""
    return text if len(text) <= 2 * MAX_CLIP_CHARS else f"{text[:MAX_CLIP_CHARS]} … {text[-MAX_CLIP_CHARS:]}"


def _split_hashtag(match: re.Match[str]) -> str:
    return " # " + " ".join(_HASHTAG_PART.findall(match[1])) + " "


def _spell_not(match: re.Match[str]) -> str:
    verb = match[1]
    return _FULL_VERB.get(verb.lower(), verb) + " not"


def _name_emoji(match: re.Match[str]) -> str:
    return f" {_FEELING_OF.get(match[0], 'xxemoji')} "


def _name_emoticon(match: re.Match[str]) -> str:
    return f" {match.lastgroup} "


def _name_emojis(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    text = _FLAG.sub(" xxemoji ", text)
    return _EMOJI.sub(_name_emoji, text)


def prepare_subword(text: str) -> str:
    """Social-media text made plain for a lower-casing WordPiece vocabulary.

    In this order: entities decoded; surrogates and controls replaced; links and mentions to placeholders; emoji and
    emoticons to the word of their feeling; hashtags split; letters repeated three times or more cut to two; `n't`
    spelled out.
    """
    text = _clip(text)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    text = _CONTROL.sub(" ", text)
    if not text.isascii():
        text = _QUOTE.sub("'", _name_emojis(_SURROGATE.sub("\ufffd", text)))
    text = _LINK.sub(" xxlink ", text)
    if "@" in text:
        text = _MENTION.sub(" xxuser ", text)
    text = _EMOTICON.sub(_name_emoticon, text)
    if "#" in text:
        text = _HASHTAG.sub(_split_hashtag, text)
    text = _CLITIC.sub(" ", _NOT.sub(_spell_not, text.replace("`", "'")))
    text = _DOTS.sub(" … ", _MARK_RUN.sub(r"\1\1", _LETTER_RUN.sub(r"\1\1", text)))
    return _FEELING_RUN.sub(r"\1 \1", text)


PREPARATIONS: Mapping[str, Callable[[str], str]] = {"subword": prepare_subword}


#: the only parts that a tokenizer.json may have: their work is bounded by the text, and they never look across words
_PARTS = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}
_NO_PARTS = ("truncation", "padding", "post_processor", "decoder")  # padding alone could ask for any amount of memory


def _check_parts(tree: Any) -> None:
    """Raise ValueError unless the JSON of a tokenizer has our parts and a vocabulary whose ids are 0, 1, 2, ..."""
    if not isinstance(tree, dict):
        raise ValueError("it is no tokenizer")  # noqa: TRY004 - what is wrong is the file
    for part, kind in _PARTS.items():
        found = tree.get(part)
        if not isinstance(found, dict) or found.get("type") != kind:
            raise ValueError(f"its {part} must be {kind}")
    unwanted = [part for part in (*_NO_PARTS, "added_tokens") if tree.get(part)]
    if unwanted:
        raise ValueError(f"it must have no {', '.join(unwanted)}")
    vocabulary = tree["model"].get("vocab")
    ids: list[Any] = list(vocabulary.values()) if isinstance(vocabulary, dict) else [None]
    if not all(isinstance(i, int) for i in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError("its vocabulary must number its tokens 0, 1, 2, ...")


class TextEncoder:
    """Texts to token ids: a preparation, then a `tokenizers` vocabulary, with a cache of whole words in front of it.

    Words are what white space separates in the prepared text. The normalizer and pre-tokenizer of a WordPiece
    vocabulary never look across white space, so that ids of words, one after the other, equal the ids of the text (held
    by a test).
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, preparation: str, max_tokens: int) -> None:
        """`max_tokens` is inclusive. Raises KeyError for an unknown preparation, ValueError without `[UNK]`."""
        self.tokenizer = tokenizer
        self.prepare = PREPARATIONS[preparation]
        self.max_tokens = max_tokens
        self.n_tokens = tokenizer.get_vocab_size()
        unknown_id = tokenizer.token_to_id(UNKNOWN)
        if unknown_id is None:
            raise ValueError(f"the vocabulary lacks {UNKNOWN}")
        self.unknown_id = unknown_id
        self._ids_of_word: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path: Path, preparation: str, max_tokens: int) -> "TextEncoder":
        """Read a `tokenizer.json`. Raises ValueError for one that is not as ours are, OSError for an unreadable one."""
        tree = read_json(path)
        _check_parts(tree)
        try:
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tree))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path.name} is not a tokenizer: {error}") from error
        return cls(tokenizer, preparation, max_tokens)

    def forget(self) -> None:
        """Empty the cache of words."""
        self._ids_of_word.clear()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at least one (the unknown token) and at most `max_tokens`, the middle left out."""
        posts = [self.prepare(text).split() for text in texts]
        cache = self._ids_of_word
        long_words = self._learn_words(posts)
        encoded = [self._fit([i for word in post for i in cache[word]]) for post in posts]
        for word in long_words:  # they rarely come again
            del cache[word]
        return encoded

    def encode_tokens(self, texts: Sequence[str]) -> Tokens:
        """The same in one array."""
        return Tokens.of(self.encode(texts))

    def _fit(self, ids: list[int]) -> list[int]:
        if len(ids) <= self.max_tokens:
            return ids or [self.unknown_id]
        head = self.max_tokens // 2
        return ids[:head] + ids[head - self.max_tokens :]

    def _learn_words(self, posts: Sequence[list[str]]) -> list[str]:
        """Put every word of `posts` into the cache; returns those too long to stay there."""
        cache = self._ids_of_word
        if len(cache) > MAX_CACHED_WORDS:
            cache.clear()
        missing = sorted({word for post in posts for word in post if word not in cache})
        encodings = self.tokenizer.encode_batch_fast(missing, add_special_tokens=False)
        cache.update((word, encoding.ids) for word, encoding in zip(missing, encodings, strict=True))
        return [word for word in missing if len(word) > MAX_CACHED_CHARS]
