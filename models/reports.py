"""A bundle's report.json: read, and written with model card and pictures beside it."""

import json
from collections.abc import Callable, Mapping
from math import isclose
from pathlib import Path
from typing import Any

from models.corpora import CorpusError
from models.figures import draw_all
from models.manifest import CARD, REPORT, Manifest, canonical_json, read_manifest

NETWORK = "network"  #: what a report calls the bundle itself among the systems of a set

CardRenderer = Callable[[Manifest, Mapping[str, Any]], str]


def load_report(bundle: Path) -> dict[str, Any]:
    """The report that lies in a bundle's folder. Raises CorpusError without one."""
    try:
        report: dict[str, Any] = json.loads((bundle / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{bundle / REPORT} is missing or no JSON: evaluate the bundle first") from error
    if not isinstance(report, dict) or not {"sets", "headline", "headline_set"} <= set(report):
        raise CorpusError(f"{bundle / REPORT} is no report: evaluate the bundle first")
    return report


def write_report(bundle: Path, report: Mapping[str, Any], render_card: CardRenderer) -> None:
    """Write report, card and pictures into the bundle's folder; the bundle's identity does not change by it.

    Figures that an earlier report has of the same bundle, on sets that this one was not measured on, are kept, and so
    are those of other systems on sets that are still the same.
    """
    whole = _with_earlier(bundle, report)
    manifest = read_manifest(bundle)
    card = render_card(manifest, whole)  # before anything is written
    (bundle / REPORT).write_text(canonical_json(whole), encoding="utf-8")
    (bundle / CARD).write_text(card, encoding="utf-8")
    draw_all(bundle, manifest.trained.get("history", []), whole["sets"][whole["headline_set"]][NETWORK])


def _with_earlier(bundle: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    try:
        earlier = load_report(bundle)
    except CorpusError:
        return dict(report)
    if earlier.get("sha256") != report["sha256"]:
        return dict(report)
    sets = {name: _with_others(systems, earlier["sets"].get(name)) for name, systems in report["sets"].items()}
    whole = {**earlier, **report, "sets": {**earlier["sets"], **sets}}
    if earlier["headline_set"] not in report["sets"]:
        whole |= {key: earlier[key] for key in ("headline", "headline_set")}
    return whole


def _with_others(systems: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """With the figures of other systems on the same posts, which are taken for the same where the bundle's are."""
    if earlier is None:
        return dict(systems)
    before, now = earlier[NETWORK], systems[NETWORK]
    losses = before.get("log_loss", 0.0), now.get("log_loss", 0.0)
    is_same = before.get("confusion") == now.get("confusion") and isclose(*losses, rel_tol=1e-4)
    return {**earlier, **systems} if is_same else dict(systems)
