"""What people do to a sentence when they post it: case, slips, chat spelling, emoji, hashtags, mentions, links."""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from models.preparation import EMOJI_FEELINGS

FEELINGS = {
    "negative": ("xxsad", "xxangry", "xxdisgust", "xxbad", "xxbored"),
    "neutral": ("xxthink",),
    "positive": ("xxlove", "xxjoy", "xxcelebrate", "xxgreat", "xxthanks"),
}
EMOTICONS = {"negative": (":(", ":/", ":-(", "</3"), "neutral": ("",), "positive": (":)", ":D", ":-)", "<3", ";)")}
TAGS = {
    "negative": ("#fail", "#angry", "#neveragain", "#awful", "#disappointed", "#badservice", "#worst", "#fuming"),
    "neutral": ("#news", "#monday", "#shopping", "#travel", "#tech", "#business", "#retail", "#london", "#ad"),
    "positive": ("#love", "#happy", "#winning", "#best", "#thankful", "#blessed", "#greatservice", "#yum"),
}
OPENERS = (
    "ok so",
    "so",
    "well",
    "honestly",
    "tbh",
    "update:",
    "psa:",
    "fyi",
    "lol",
    "omg",
    "guys",
    "just saying,",
    "rt",
)
OPENERS_2 = (
    "hmm",
    "right,",
    "today:",
    "seriously,",
    "for the record,",
    "in other news,",
    "not gonna lie,",
    "yeah",
    "no,",
)
CLOSERS = (
    "tbh",
    "imo",
    "lol",
    "just saying",
    "that is all",
    "ngl",
    "fyi",
    "rn",
    "btw",
    "fr",
    "haha",
    "right now",
    "again",
)
CHAT: Mapping[str, str] = {
    "you": "u",
    "your": "ur",
    "are": "r",
    "because": "cuz",
    "please": "pls",
    "thanks": "thx",
    "thank you": "ty",
    "really": "rly",
    "people": "ppl",
    "and": "n",
    "with": "w/",
    "to": "2",
    "for": "4",
    "before": "b4",
    "great": "gr8",
    "do not": "dont",
    "does not": "doesnt",
    "cannot": "cant",
    "going to": "gonna",
    "want to": "wanna",
    "I am": "im",
    "service": "svc",
    "customer service": "cust service",
    "something": "smth",
    "right now": "rn",
    "the": "da",
    "love": "luv",
    "good": "gud",
    "what": "wat",
    "so": "soo",
}
_CHAT = {re.compile(rf"\b{word}\b", re.IGNORECASE): short for word, short in CHAT.items()}
_LONG_WORD = re.compile(r"[a-z]{5,}", re.IGNORECASE)
_VOWEL = re.compile(r"[aeiou](?=[a-z]?\b)", re.IGNORECASE)
_CONTRACTIONS = {"do not": "don't", "does not": "doesn't", "is not": "isn't", "cannot": "can't", "will not": "won't"}


def untidy(text: str, label: str, chance: random.Random) -> str:
    """A sentence as it might be posted. Marks of feeling go with `label`; all else is the same for every label."""
    for share, change in CHANGES:
        if chance.random() < share:
            text = change(text, label, chance)
    return text


def _swap_negation(text: str, _label: str, chance: random.Random) -> str:
    """`do not` to `don't`, or the other way round."""
    if chance.random() < 0.5:
        for long, short in _CONTRACTIONS.items():
            text = text.replace(long, short)
        return text
    for long, short in _CONTRACTIONS.items():
        text = text.replace(short, long)
    return text


def _drop_apostrophes(text: str, _label: str, _chance: random.Random) -> str:
    return text.replace("'", "")


def _chat(text: str, _label: str, chance: random.Random) -> str:
    for pattern, short in _CHAT.items():
        if chance.random() < 0.35:
            text = pattern.sub(short, text)
    return text


def _slip(text: str, _label: str, chance: random.Random) -> str:
    """Two letters of a long word change places, or one is lost or doubled."""
    words = list(_LONG_WORD.finditer(text))
    if not words:
        return text
    word = chance.choice(words)
    at = word.start() + chance.randrange(1, len(word[0]) - 2)
    kind = chance.randrange(3)
    letters = (text[at + 1] + text[at], text[at + 1], text[at] * 2 + text[at + 1])[kind]
    return text[:at] + letters + text[at + 2 :]


def _stretch(text: str, _label: str, chance: random.Random) -> str:
    vowels = list(_VOWEL.finditer(text))
    if not vowels:
        return text
    at = chance.choice(vowels).start()
    return text[:at] + text[at] * chance.randrange(3, 6) + text[at + 1 :]


def _open(text: str, _label: str, chance: random.Random) -> str:
    return f"{chance.choice(OPENERS)} {text}"


def _close(text: str, _label: str, chance: random.Random) -> str:
    return f"{text} {chance.choice(CLOSERS)}"


def _capital(text: str, _label: str, chance: random.Random) -> str:
    return text.upper() if chance.random() < 0.08 else text[:1].upper() + text[1:]


def _end(text: str, label: str, chance: random.Random) -> str:
    marks: Sequence[str] = (".", ".", "...", "!") if label == "neutral" else (".", "!", "!!", "...", "!!!")
    return text if text.endswith("?") else text + chance.choice(marks)


def _emoji(text: str, label: str, chance: random.Random) -> str:
    one = chance.choice(EMOJI_FEELINGS[chance.choice(FEELINGS[label])])
    return f"{text} {one * chance.choice((1, 1, 2))}"


def _emoticon(text: str, label: str, chance: random.Random) -> str:
    return f"{text} {chance.choice(EMOTICONS[label])}".strip()


def _tag(text: str, label: str, chance: random.Random) -> str:
    return f"{text} {chance.choice(TAGS[chance.choice((label, 'neutral'))])}"


def _mention(text: str, _label: str, chance: random.Random) -> str:
    return f"@user {text}" if chance.random() < 0.7 else f"{text} @user"


def _link(text: str, _label: str, _chance: random.Random) -> str:
    return f"{text} https://example.org/a"


#: (share of the posts, change), in the order in which they are made
CHANGES: Sequence[tuple[float, Callable[[str, str, random.Random], str]]] = (
    (0.4, _swap_negation),
    (0.12, _open),
    (0.10, _close),
    (0.12, _chat),
    (0.12, _drop_apostrophes),
    (0.08, _slip),
    (0.05, _stretch),
    (0.5, _capital),
    (0.6, _end),
    (0.10, _emoji),
    (0.03, _emoticon),
    (0.08, _tag),
    (0.15, _mention),
    (0.06, _link),
)
