"""Made-up posts about made-up brands, for `demo`: what people write, how often, and a brand whose week goes wrong."""

import csv
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_THINGS = {
    "Northwind Coffee": ("espresso", "cold brew", "loyalty app", "new blend", "breakfast menu", "store on Main Street"),
    "Pixelphone": ("camera", "battery", "screen", "latest update", "charger", "speaker"),
    "Swift Air": ("flight to Lisbon", "check-in", "cabin crew", "lounge", "boarding", "seat upgrade"),
}
_PRAISE = (
    "Absolutely love the {thing} from {brand} 😍",
    "{brand} did it again, the {thing} is fantastic!",
    "Best {thing} I've had in years, thank you {brand} ❤️",
    "So happy with {brand}. Great {thing}, friendly people",
    "Really impressed by the {thing} at {brand}, highly recommend",
    "The {thing} made my day, {brand} rocks 🙌",
    "Wow, {brand} has an amazing {thing}",
)
_PLAIN = (
    "{brand} announced changes to the {thing} for next month",
    "Does anyone know when the {thing} from {brand} is back?",
    "Comparing the {thing} of {brand} with two others today",
    "{brand} opens tomorrow at nine, the {thing} included",
    "Reading an article about {brand} and its {thing}",
    "Picked up the {thing} at {brand} on the way to work",
)
_COMPLAINT = (
    "The {thing} from {brand} is terrible, never again 😡",
    "Worst {thing} ever. {brand} ruined my whole day",
    "{brand}, your {thing} is broken and nobody answers. Awful service",
    "So disappointed by {brand}. The {thing} was a disaster",
    "I hate what {brand} did to the {thing}, what a waste of money",
    "Still waiting for a refund, {brand}. The {thing} never worked 😠",
    "{brand} has a horrible {thing} and rude staff",
)
#: what the brand in trouble is in trouble for
_CANCELLED = (
    "Stuck in {place} because {brand} cancelled the flight, no help at all 😡",
    "{brand} cancelled us in {place} and the hotline hangs up. Horrible",
    "Second night in {place}, flight cancelled, no hotel. Shame on you {brand}",
    "Missed a wedding in {place}, {brand} cancelled without a word. Furious",
    "No refund for the cancelled trip to {place}. {brand} is a disgrace",
    "Crying kids at the gate in {place}, everything cancelled, awful {brand}",
    "Never booking {brand} again: {place} cancelled, rude answers, no refund",
)
_PLACES = (
    "Lisbon", "Oslo", "Rome", "Vienna", "Porto", "Dublin", "Athens", "Prague", "Malaga", "Berlin", "Nice", "Riga",
    "Gdansk", "Zagreb", "Seville", "Turin", "Bergen", "Tallinn", "Lyon", "Split",
)  # fmt: skip
_AFTERTHOUGHTS = ("", "", "", " again", " today", " tbh", " this week", " smh", " #{tag}", " @{tag}")

#: shares of praise and complaints on an ordinary day, and on the last days of a brand in trouble (the running day last)
_ORDINARY = (0.52, 0.18)
_OF_THE_CAUSE = 0.9  #: of the complaints on those days
_TROUBLE = ((0.24, 0.56), (0.16, 0.68), (0.06, 0.84))


@dataclass(frozen=True)
class SimulatedPost:
    """One row of the drop folder's CSV."""

    created_at: datetime  # aware, UTC
    brand: str
    user_id: str
    text: str


class Simulator:
    """Posts of three brands over two weeks; the last brand dips from the day before yesterday on."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a story, not a secret
        self.brands = tuple(_THINGS)
        self.dipping = self.brands[-1]

    def history(self, now: datetime, n_days: int = 13, per_day: int = 45) -> Iterator[SimulatedPost]:
        """Every brand's posts on the `n_days` days before today (UTC)."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        for days_ago in range(n_days, 0, -1):
            for brand in self.brands:
                for _ in range(per_day + self._random.randrange(20)):
                    at = midnight - timedelta(days=days_ago) + timedelta(seconds=self._random.randrange(86_400))
                    yield self._post(brand, at, days_ago)

    def today(self, now: datetime, n_posts: int) -> Iterator[SimulatedPost]:
        """`n_posts` posts of random brands, written today until `now`."""
        now = now.astimezone(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(n_posts):
            at = midnight + (now - midnight) * self._random.random()
            yield self._post(self._random.choice(self.brands), at, 0)

    def _post(self, brand: str, at: datetime, days_ago: int) -> SimulatedPost:
        in_trouble = brand == self.dipping and days_ago < len(_TROUBLE)
        praise, complaint = _TROUBLE[-1 - days_ago] if in_trouble else _ORDINARY
        draw = self._random.random()
        pool = _PRAISE if draw < praise else _COMPLAINT if draw < praise + complaint else _PLAIN
        if in_trouble and pool is _COMPLAINT and self._random.random() < _OF_THE_CAUSE:
            pool = _CANCELLED
        line = self._random.choice(pool) + self._random.choice(_AFTERTHOUGHTS)
        thing, place = self._random.choice(_THINGS[brand]), self._random.choice(_PLACES)
        text = line.format(thing=thing, place=place, brand=brand, tag=brand.replace(" ", ""))
        return SimulatedPost(at, brand, f"user{self._random.randrange(100_000)}", text)


def drop(folder: Path, name: str, posts: Sequence[SimulatedPost]) -> None:
    """Write posts as `name` into a drop folder the way every exporter should: under a hidden name first, then
    renamed."""
    hidden = folder / f".{name}.part"
    with hidden.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("created_at", "brand", "user_id", "text"))
        rows.writerows((post.created_at.isoformat(), post.brand, post.user_id, post.text) for post in posts)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(folder / name)
