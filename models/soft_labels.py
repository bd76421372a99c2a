"""What teachers say of the posts that a network learns from: computed once, kept beside the checkpoint.

Only the posts that the recipe's epochs draw are asked about: a transformer takes some ten milliseconds for one.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from safetensors import safe_open
from safetensors.numpy import save_file

from models.corpora import CLASSES, Corpus
from models.mixture import EncodedCorpus, Mixture
from models.teacher import Teacher

LOG = logging.getLogger(__name__)
SAVE_S = 60.0
CHUNK_POSTS = 1_024

Labels = dict[str, npt.NDArray[np.floating[Any]]]


def taught_by(
    teachers: Sequence[Teacher],
    corpora: Mapping[str, Corpus],
    encoded: Mapping[str, EncodedCorpus],
    mixtures: Sequence[Mixture],
    bundle: Path,
) -> dict[str, EncodedCorpus]:
    """The encoded corpora with the mean of the teachers' probabilities of every post that is drawn, and their hints.

    Untaught sources are as they were. What each teacher says is kept in a file beside the folder of the `bundle`, from
    which an interrupted call goes on.
    """
    recipe = mixtures[0].recipe
    corpora = {name: corpus for name, corpus in corpora.items() if name not in recipe.untaught}
    said = [_labels_of(teacher, corpora, mixtures, soft_labels_file(bundle, teacher)) for teacher in teachers]
    taught = dict(encoded)
    for name in corpora:
        mean = np.stack([labels[name] for labels in said]).mean(axis=0)
        hints = _side_by_side([labels.pop(states_of(name)) for labels in said]) if recipe.hint_weight else None
        taught[name] = replace(encoded[name], taught=mean, hints=hints)
    return taught


def _side_by_side(states: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.float16]:
    """The states (n, D) of K teachers as one array (n, K, D) of the widest one's D: others end in zeros.

    Zeros leave the direction that a hint is learnt by as it is.
    """
    n, widest = len(states[0]), max(one.shape[1] for one in states)
    stacked = np.zeros((n, len(states), widest), np.float16)
    for number, one in enumerate(states):
        stacked[:, number, : one.shape[1]] = one
    return stacked


def states_of(source: str) -> str:
    """Under which name a teacher's states of a source's posts are kept."""
    return f"{source}.states"


def soft_labels_file(bundle: Path, teacher: Teacher) -> Path:
    """Where what a teacher says lies, beside the folder of the bundle that learns from it."""
    return bundle.with_name(f"{bundle.name}.{teacher.sha256[:8]}.soft-labels")


def _labels_of(teacher: Teacher, corpora: Mapping[str, Corpus], mixtures: Sequence[Mixture], kept: Path) -> Labels:
    """A teacher's probabilities (n, C) by source, and states (n, D) where hints are asked for.

    NaN for the posts that no epoch draws.
    """
    fingerprint = _fingerprint(teacher, corpora)
    labels = _load(kept, fingerprint)
    asked = {name: name for name in corpora}
    for name, corpus in corpora.items():
        labels.setdefault(name, np.full((len(corpus), len(CLASSES)), np.nan, np.float32))
        if mixtures[0].recipe.hint_weight:
            asked[name] = states_of(name)
            labels.setdefault(asked[name], np.full((len(corpus), teacher.width), np.nan, np.float16))
    wanted = {name: sorted(set().union(*(mixture.drawn(name) for mixture in mixtures))) for name in corpora}
    missing = [(name, i) for name, rows in wanted.items() for i in rows if np.isnan(labels[asked[name]][i, 0])]
    if missing:
        LOG.info("the teacher %s labels %d posts", teacher.sha256[:8], len(missing))
        _label(teacher, corpora, labels, missing, lambda: _save(kept, fingerprint, labels))
    return labels


def _label(
    teacher: Teacher,
    corpora: Mapping[str, Corpus],
    labels: Labels,
    missing: Sequence[tuple[str, int]],
    save: Callable[[], None],
) -> None:
    """Ask about the posts (source, number) that are `missing`; `save` now and then, and at the end."""
    saved_at = time.monotonic()
    missing = sorted(missing, key=lambda at: len(corpora[at[0]].texts[at[1]]))  # of like length: little padding
    console = Console(stderr=True)
    starts = range(0, len(missing), CHUNK_POSTS)
    for start in track(starts, "teacher", console=console, transient=True, disable=not console.is_terminal):
        chunk = missing[start : start + CHUNK_POSTS]
        found = teacher.say([corpora[name].texts[i] for name, i in chunk])
        for (name, i), probabilities, states in zip(chunk, *found, strict=True):
            labels[name][i] = probabilities
            if states_of(name) in labels:
                labels[states_of(name)][i] = states
        if time.monotonic() - saved_at > SAVE_S:
            save()
            saved_at = time.monotonic()
            LOG.info("labelled %d of %d posts", start + len(chunk), len(missing))
    save()


def _fingerprint(teacher: Teacher, corpora: Mapping[str, Corpus]) -> str:
    hashes = [hashlib.sha256("\n".join(c.texts).encode("utf-8", "replace")).hexdigest() for c in corpora.values()]
    return hashlib.sha256(json.dumps([teacher.sha256, list(corpora), hashes]).encode()).hexdigest()


def _load(path: Path, fingerprint: str) -> Labels:
    if not path.exists():
        return {}
    with safe_open(path, "np") as stored:
        if stored.metadata().get("fingerprint") != fingerprint:
            return {}
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no mapping


def _save(path: Path, fingerprint: str, labels: Labels) -> None:
    """Write beside, then rename, as `checkpoint.save_checkpoint`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".fresh-labels")
    save_file(labels, fresh, metadata={"fingerprint": fingerprint})
    fresh.replace(path)
