"""What the network is compared with: logistic regression on bags of words, and VADER. Needs the extra `train`."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from models.corpora import CLASSES, Corpus
from models.measures import FloatArray, IntArray
from models.preparation import prepare_subword

NOT_SPACE = r"\S+"
VADER_NEUTRAL = 0.05  # compound scores closer to 0 are neutral: the threshold its authors give


class Baseline(Protocol):
    """A classifier of texts into `CLASSES`."""

    name: str

    def predict(self, texts: Sequence[str]) -> tuple[IntArray, FloatArray | None]:
        """Class indices (n,), and probabilities (n, 3) from those that have them."""


class BagOfWords:
    """Logistic regression over tf-idf of words and word pairs, classes weighted alike, on labels the network had."""

    name = "bag of words"

    def __init__(self, corpora: Sequence[Corpus], max_posts: int = 100_000) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        texts = [prepare_subword(text) for corpus in corpora for text in corpus.texts][:max_posts]
        labels = [label for corpus in corpora for label in corpus.labels][:max_posts]
        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=NOT_SPACE)
        self._classifier = LogisticRegression(C=2.0, class_weight="balanced", max_iter=300)
        self._classifier.fit(self._vectorizer.fit_transform(texts), labels)

    def predict(self, texts: Sequence[str]) -> tuple[IntArray, FloatArray | None]:
        found = self._classifier.predict_proba(self._vectorizer.transform([prepare_subword(text) for text in texts]))
        probabilities = np.zeros((len(texts), len(CLASSES)))
        probabilities[:, self._classifier.classes_] = found
        return probabilities.argmax(axis=1), probabilities


class Vader:
    """VADER (Hutto and Gilbert 2014): a word list and rules, nothing trained."""

    name = "VADER"

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def predict(self, texts: Sequence[str]) -> tuple[IntArray, FloatArray | None]:
        compound = np.array([self._analyzer.polarity_scores(text)["compound"] for text in texts])
        return np.where(compound >= VADER_NEUTRAL, 2, np.where(compound <= -VADER_NEUTRAL, 0, 1)), None
