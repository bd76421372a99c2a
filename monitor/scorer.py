"""The only door to models/: texts in, scores out."""

import threading
from collections.abc import Sequence
from pathlib import Path

from models.bundle import Bundle, BundleError, find_bundle
from monitor.errors import ConfigError
from monitor.metrics import Metrics
from monitor.posts import Post, Score


class BundleScorer:
    """protocols.Scorer over a bundle; the pipeline and POST /score may call it at the same time."""

    def __init__(self, bundle: Bundle, *, skip_other_languages: bool = False, metrics: Metrics | None = None) -> None:
        self.bundle = bundle
        self.model = f"{bundle.name}@{bundle.sha256[:8]}"
        self._languages = frozenset(bundle.languages) if skip_other_languages else None
        self._metrics = metrics
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        name: str,
        device: str,
        base_dir: Path,
        *,
        skip_other_languages: bool = False,
        metrics: Metrics | None = None,
    ) -> "BundleScorer":
        """Find, verify and load a bundle; ConfigError names the file that is missing or altered."""
        try:
            bundle = Bundle.load(find_bundle(name, base_dir), device)
        except BundleError as error:
            raise ConfigError(f"bundle {name}: {error}") from error
        return cls(bundle, skip_other_languages=skip_other_languages, metrics=metrics)

    def score(self, posts: Sequence[Post]) -> list[Score | None]:
        known = [index for index, post in enumerate(posts) if self._knows(post.lang)]
        scores: list[Score | None] = [None] * len(posts)
        for index, score in zip(known, self.score_texts([posts[index].text for index in known]), strict=True):
            scores[index] = score
        return scores

    def score_texts(self, texts: Sequence[str]) -> list[Score]:
        """Scores of bare texts, in order."""
        if not texts:
            return []
        with self._lock:
            scored = self.bundle.score(texts)
        if self._metrics:
            self._metrics.memory_halvings.set(self.bundle.out_of_memory_halvings)
        three = len(self.bundle.classes) == 3
        threshold = self.bundle.pred_threshold
        rows = zip(scored.pos_prob.tolist(), scored.labels, scored.probabilities.tolist(), strict=True)
        return [
            Score(pos_prob, int(pos_prob >= threshold), label, row[0], row[1] if three else None, row[2])
            for pos_prob, label, row in rows
        ]

    def _knows(self, lang: str | None) -> bool:
        """A post that does not say its language is scored; `en-GB` counts as `en`."""
        return self._languages is None or not lang or lang.lower().replace("_", "-").split("-")[0] in self._languages
