"""Text made plain for a vocabulary: the closed list of preparations.

A preparation is a total function from any str (NUL, lone surrogates, 20,000 characters) to clean text. A bundle's
manifest names one of them, never code. Placeholders and emoji become words that begin with `xx` and stand in the
vocabulary whole.
"""

import html
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from models.word_preparation import WORD_PREPARATIONS, prepare_with

MAX_CLIP_CHARS = 1_000  # kept from each end of a longer text: twice what any token limit here can use

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
# No mention that holds a link's beginning, and no link that holds an entity.
_WHOLE_PLACEHOLDER = re.compile(r"(@)(?!https?$)\w+|https?://[!-%'-~]+", re.ASCII | re.IGNORECASE)
# A word, perhaps with a mark behind it, where no pattern matches: no link, emoticon (xD), negation, letters in a run.
_PLAIN = re.compile(r"(?!http|x|.*(.)\1\1)[a-z]+(?<!nt)[.,!?]?", re.ASCII | re.IGNORECASE)
_HASHTAG = re.compile(r"#(\w+)")
_HASHTAG_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z\d_]+|\d+|[^\W_]")
_RUN = re.compile(r"([^\W\d_]|[!?*,=~_\-+#$])\1{2,}")
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
_EMOTICON_HINT = re.compile("[:=;^_<]|[xX]-?D")  # every emoticon holds one of these
_FEELING = re.compile(r"\bxx[a-z]")
_FEELING_RUN = re.compile(r"\b(xx[a-z]+)(?:\s+\1\b){2,}")


def clip(text: str) -> str:
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
    return _cut_feelings(_prepare(clip(text)))


def _cut_feelings(text: str) -> str:
    return _FEELING_RUN.sub(r"\1 \1", text) if "xx" in text else text


def _prepare(text: str) -> str:
    """All but runs of feelings: what never looks across white space. A pattern is only tried where it could match."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    if not text.isascii():
        text = _QUOTE.sub("'", _name_emojis(_SURROGATE.sub("\ufffd", text)))
    text = _name_marks(text)
    text = text.replace("`", "'")
    if "nt" in (small := text.lower()) or "n't" in small:
        text = _NOT.sub(_spell_not, text)
    if "'" in text:
        text = _CLITIC.sub(" ", text)
    text = _RUN.sub(r"\1\1", text)
    return _DOTS.sub(" … ", text) if ".." in text or "…" in text else text


def _name_marks(text: str) -> str:
    """Links, mentions, emoticons and hashtags to words."""
    if "/" in text or "http" in (small := text.lower()) or "www." in small:
        text = _LINK.sub(" xxlink ", text)
    if "@" in text:
        text = _MENTION.sub(" xxuser ", text)
    if _EMOTICON_HINT.search(text):
        text = _EMOTICON.sub(_name_emoticon, text)
    return _HASHTAG.sub(_split_hashtag, text) if "#" in text else text


class PreparedWord(NamedTuple):
    """A word prepared alone."""

    pieces: list[str]
    n_feelings: int  # words in it that begin with `xx`: in a run of three, also over white space, the third goes


def prepare_word(word: str) -> PreparedWord | None:
    """What `prepare_subword` makes of a word of any text, or None where that depends on the rest of the text.

    A text is its words, one after the other (`str.split`), unless two words with feelings have three together.
    Everything else stays within a word: no pattern matches white space, nor sees from the edge of a word whether white
    space or nothing follows (held by a test over real and hostile texts).
    """
    if _PLAIN.fullmatch(word):
        return PreparedWord([word], 0)
    if "`" in (html.unescape(html.unescape(word)) if "&" in word else word):
        return None  # a quotation mark from the start if anything in the text is not ASCII, else after emoticons
    prepared = _prepare(word)
    return PreparedWord(_cut_feelings(prepared).split(), len(_FEELING.findall(prepared)) if "xx" in prepared else 0)


def placeholder_of(word: str) -> str | None:
    """The placeholder that is all of a word, for mentions and links as most are written: faster than preparing it."""
    if not word.startswith(("@", "http")):
        return None
    match = _WHOLE_PLACEHOLDER.fullmatch(word)
    return match and ("xxuser" if match[1] else "xxlink")


PREPARATIONS: Mapping[str, Callable[[str], str]] = {
    "subword": prepare_subword,
    **{name: prepare_with(name) for name in WORD_PREPARATIONS},
}
#: for those of subwords that can be done word by word: of a text not longer than `clip` leaves it
PREPARATIONS_BY_WORD: Mapping[str, Callable[[str], PreparedWord | None]] = {"subword": prepare_word}
