"""Bundles that have scored posts here: what the `model` column of posts and daily rows stands for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select

from monitor.store.database import Database, insert_into
from monitor.store.schema import models


class Described(Protocol):
    """What `register` needs of a bundle."""

    @property
    def name(self) -> str:
        """The bundle's name."""

    @property
    def sha256(self) -> str:
        """Hash of its manifest, in hex."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes, in order."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it knows."""

    @property
    def pred_threshold(self) -> float:
        """pos_prob from which pred is 1."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The headline of its evaluation report."""


@dataclass(frozen=True)
class ModelRow:
    """One row of `models`."""

    model: str
    name: str
    sha256: str
    classes: tuple[str, ...]
    languages: tuple[str, ...]
    pred_threshold: float
    loaded_at: datetime
    metrics: dict[str, Any]


def register(db: Database, model: str, bundle: Described, now: datetime) -> None:
    """Note what `model` (as in the `model` columns) is; the first note stays."""
    values = {
        "model": model,
        "name": bundle.name,
        "sha256": bundle.sha256,
        "classes": ",".join(bundle.classes),
        "languages": ",".join(bundle.languages),
        "pred_threshold": bundle.pred_threshold,
        "loaded_at": now,
        "metrics": json.dumps(dict(bundle.metrics), sort_keys=True),
    }
    db.run(
        lambda connection: connection.execute(insert_into(connection, models).values(values).on_conflict_do_nothing())
    )


def listing(db: Database) -> list[ModelRow]:
    """Every model that was loaded here, in the order of loading."""
    rows = db.read(lambda connection: connection.execute(select(models).order_by(models.c.loaded_at)).all())
    return [
        ModelRow(
            row.model,
            row.name,
            row.sha256,
            tuple(row.classes.split(",")),
            tuple(row.languages.split(",")),
            row.pred_threshold,
            row.loaded_at,
            json.loads(row.metrics or "{}"),
        )
        for row in rows
    ]
