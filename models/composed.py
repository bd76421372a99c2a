"""Generated training posts for what the corpora hold too little of: negation, contrast, comparison, questions, slang.

A grammar (`grammar/frames.yaml` and `everyday.yaml`, over the words of `words.yaml`) written for the purpose; no text
of a corpus or of a test is in it. Each frame and each word belongs to one part, training or development, by its hash,
so that the development part says whether the ability goes beyond what was trained.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from models.untidy import untidy

Part = Literal["training", "development"]
Words = Mapping[str, Sequence[str]]
LABELS = ("negative", "neutral", "positive")
DEVELOPMENT_OF = 8  #: one frame and one word in this many is held out for development
SHARED = "shared"
FAMILY_WEIGHTS = {
    "plain": 3.0,
    "negation": 3.0,
    "scope": 2.0,
    "contrast": 2.0,
    "concession": 1.5,
    "change": 1.5,
    "comparison": 2.0,
    "question": 2.0,
    "news": 1.5,
    "wordname": 1.5,
    "sarcasm": 1.5,
    "slang": 1.5,
}
FACTS = ("news", "wordname")  #: families whose neutral posts may stand before or after praise or complaint
FACT_SHARE = 0.12
_CHOICE = re.compile(r"\(([^()\[\]]*\|[^()\[\]]*)\)|\[([^()\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b(a) (?=[aeiou])", re.IGNORECASE)
_MAX_DEPTH = 12


@dataclass(frozen=True)
class Grammar:
    """`words` of each domain (shared ones included), `parts` of sentences, `frames` of family and label."""

    words: Mapping[str, Words]
    parts: Words
    frames: Mapping[tuple[str, str], Sequence[str]]


def is_development(text: str) -> bool:
    """Whether a frame or word is held out for development."""
    return hashlib.sha256(text.encode()).digest()[0] % DEVELOPMENT_OF == 0


@cache
def grammar(part: Part) -> Grammar:
    """The frames and words of one part. A list in which the hash picks none for development lends its others."""
    lists, sentences, everyday = _read("words"), _read("frames"), _read("everyday")
    parts = sentences.pop("parts")
    shared = {name: _of_part(words, part) for name, words in lists.pop(SHARED).items()}
    domains = {domain: _domain(shared, own, part) for domain, own in lists.items()}
    written: dict[tuple[str, str], list[str]] = {}
    for file in (sentences, everyday):
        for family, by_label in file.items():
            for label, texts in by_label.items():
                written.setdefault((family, label), []).extend(_chosen(texts, part))
    return Grammar({SHARED: shared, **domains}, parts, {key: frames for key, frames in written.items() if frames})


def grammar_files() -> dict[str, Path]:
    """The files of the grammar by name."""
    return {
        name: Path(str(resources.files("models") / "grammar" / f"{name}.yaml"))
        for name in ("frames", "everyday", "words")
    }


def _read(name: str) -> Any:
    return yaml.safe_load(grammar_files()[name].read_text(encoding="utf-8"))


def _domain(shared: Words, own: Words, part: Part) -> Words:
    """A domain's own things; its judgements beside the shared ones, drawn as often."""
    found = dict(shared)
    for name, words in own.items():
        mine = _of_part(words, part)
        times = max(1, len(shared[name]) // len(mine))
        found[name] = mine if name in {"thing", "things"} else [*shared[name], *(list(mine) * times)]
    return found


def _of_part(texts: Sequence[str], part: Part) -> Sequence[str]:
    return _chosen(texts, part) or texts


def _chosen(texts: Sequence[str], part: Part) -> list[str]:
    return [text for text in texts if is_development(text) == (part == "development")]


def compose(n_posts: int, seed: int, part: Part = "training") -> Iterator[tuple[str, str]]:
    """`n_posts` posts as (text, label name), labels in equal shares; the same seed gives the same posts."""
    chance = random.Random(f"{seed} {part}")  # noqa: S311 - nothing secret
    rules = grammar(part)
    families = {label: [family for family, found in rules.frames if found == label] for label in LABELS}
    for _ in range(n_posts):
        label = chance.choice(LABELS)
        words = rules.words[chance.choice(list(rules.words))]
        family = chance.choices(families[label], [FAMILY_WEIGHTS[name] for name in families[label]])[0]
        text = _sentence(rules, words, family, label, chance)
        if label != "neutral" and chance.random() < FACT_SHARE:
            text = _with_fact(text, _sentence(rules, words, chance.choice(FACTS), "neutral", chance), chance)
        yield untidy(text, label, chance), label


def _with_fact(text: str, fact: str, chance: random.Random) -> str:
    return f"{fact}. {text}" if chance.random() < 0.6 else f"{text}. {fact}"


def _sentence(rules: Grammar, words: Words, family: str, label: str, chance: random.Random) -> str:
    text = expand(chance.choice(rules.frames[family, label]), {**words, **rules.parts}, chance)
    return _ARTICLE.sub(r"\1n ", text)


def expand(text: str, lists: Words, chance: random.Random) -> str:
    """A frame with every choice made and every slot filled. Raises ValueError where a slot has no list, or no end."""
    for _ in range(_MAX_DEPTH):
        chosen = _CHOICE.sub(lambda found: _choose(found, chance), text)
        filled = _SLOT.sub(lambda found: _fill(found[1], lists, chance), chosen)
        if filled == text:
            return " ".join(text.replace(" ,", ",").split())
        text = filled
    raise ValueError(f"a frame does not end: {text}")


def _choose(found: re.Match[str], chance: random.Random) -> str:
    choices, perhaps = found.groups("")
    if choices:
        return chance.choice(choices.split("|"))
    return perhaps if chance.random() < 0.5 else ""


def _fill(name: str, lists: Words, chance: random.Random) -> str:
    if name not in lists:
        raise ValueError(f"no list of words is called {name}")
    return chance.choice(lists[name])
