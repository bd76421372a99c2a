"""What a report says beyond its sets, as text: intervals, calibration, daily means, sources left out."""

from collections.abc import Iterator, Mapping, Sequence
from math import hypot
from typing import Any

import numpy as np

from models.calibration_figures import POS_PROB
from models.corpora import CLASSES, FILES
from models.manifest import CLASSES_TWO

Figures = Mapping[str, Any]
MEASURES = {"accuracy": "accuracy", "macro_recall": "macro recall", "two_class_accuracy": "two-class"}
#: of `corpora.SET_ASIDE`
WHY_ASIDE = {
    "crowdflower": "some of them are called positive where somebody says that a team cheated",
    "uci": "they come out of IMDB's test reviews",
}
DAYS = {
    "raw": "mean of pos_prob as it is",
    "plain_em": "corrected by plain EM",
    "corrected": "corrected by EM with a prior",
    "perfect_model": "a perfect model",
}


def sections(report: Figures, names: Mapping[str, str]) -> Iterator[str]:
    """The sections there are figures for; `names` of sets as shown."""
    if any("intervals" in systems["network"] for systems in report["sets"].values()):
        yield "95% intervals (bootstrap over posts):\n\n" + _intervals(report["sets"], names)
    if report.get("calibration"):
        yield _calibration(report["calibration"], names)
    if report.get("brand_days"):
        yield _brand_days(report["brand_days"])
    if report.get("hold_out"):
        yield render_hold_outs(report["hold_out"], report.get("in_training", {}))
        yield told_of_others(report["hold_out"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _intervals(sets: Figures, names: Mapping[str, str]) -> str:
    found = {name: systems["network"].get("intervals", {}) for name, systems in sets.items()}
    rows = [
        [names.get(name, name), *(_range(found[name][key]) if key in found[name] else "" for key in MEASURES)]
        for name in _ordered(found, names)
        if found[name]
    ]
    return _table(["set", *MEASURES.values()], rows)


def _ordered(sets: Figures, names: Mapping[str, str]) -> list[str]:
    """Sets in the order of their names, those without one first: the same whether a report was just made or read."""
    return sorted(sets, key=lambda name: (list(names).index(name) if name in names else -1, name))


def _calibration(sets: Figures, names: Mapping[str, str]) -> str:
    rows = [
        [
            names.get(name, name),
            f"{figures['posts']:,}",
            part,
            f"{one['ece']:.3f}",
            _range(one["interval"]),
            f"{one['floor']:.3f}",
        ]
        for name in _ordered(sets, names)
        for figures in [sets[name]]
        for part in (*CLASSES, POS_PROB)
        for one in [figures[part]]
    ]
    told = "Calibration: ECE in 15 bins, classes weighted alike, beside that of a perfect model on as many posts:"
    return f"{told}\n\n{_table(['set', 'posts', 'probability', 'ECE', '95% interval', 'perfect model'], rows)}"


def _errors(one: Figures) -> list[str]:
    return [f"{one['ece']:.3f}", _range(one["interval"]), f"{one['floor']:.3f}"]


def _brand_days(days: Figures) -> str:
    rows = [
        [shown, f"{days[key]['mean_difference']:.3f}", _range(days[key]["interval"]) if "interval" in days[key] else ""]
        for key, shown in DAYS.items()
    ]
    told = (
        f"Daily means of {days['brand_days']} days of {days['brands']} brands with 30 posts or more, SemEval 2016test:"
        " mean absolute difference to the human mean. Corrections use no label of the brand. The prior has the class"
        " shares of the development tweets and is worth 100 posts, a round number that was chosen with these figures in"
        " sight:"
    )
    return f"{told}\n\n{_table(['mean', 'difference', '95% interval'], rows)}"


def render_hold_outs(found: Figures, in_training: Figures) -> str:
    """A table of sources, each left out of a training of its own; beside it what is got where they are not."""
    rows = [
        [
            source,
            one.get("scale", "small") + ("*" if one.get("other_recipe") else ""),
            *_sided(one),
            *_by_side(one),
            one.get("teacher", {}).get("recipe", ""),
            *_sided(one.get("teacher"))[1:],
            *_sided(in_training.get(source)),
        ]
        for source, one in sorted(found.items())
    ]
    taught = [one["teacher"] for one in found.values() if "teacher" in one]
    of_others = {bool(one.get("other_recipe")) for one in found.values()}
    of_teachers = _mean(taught) if len(taught) == len(found) else ["", ""]
    means = [*_mean(list(found.values())), "", "", "", *of_teachers, "", "", ""]
    if len(of_others) == 1:
        rows.append(["mean of these sources", "", "", *means])
    told = "Two-class accuracy on posts with a side of sources left out of a training of their own"
    if taught:
        told += (
            ", and that of the one teacher of each training, which had not seen the source either, on the same posts"
            " (its recipe stands under 'taught by', where it was noted)"
        )
    if any("by_side" in one for one in found.values()):
        told += ". Among as many posts of either side, more would be called that one of whose posts it gets more right"
    told += (
        ". At small scale a stage draws a third of its posts in each epoch, but such as a teacher was asked about in"
        " the first two alone, to go through them again in the others; the teacher has one epoch."
    )
    if any(of_others):
        told += (
            " *: by another recipe than this bundle's, with a kind of teacher that it did not have, or when small scale"
            " was another."
        )
    elif len({one.get("recipe") for one in taught}) > 1:
        told += " The mean is of all, whatever taught them."
    if len(of_others) == 1 and len(found) > 1:
        told += (
            " Its interval is of drawing other posts of these same sources, neither of other sources nor of other"
            " trainings."
        )
    told += (
        " Beside them this bundle, which learnt from the source, on the source's posts in the random hold-out, of which"
        " only sources with all three classes have some:"
    )
    after = [_told_aside(source, one) for source, one in sorted(found.items()) if "set_aside" in one]
    if after and len(of_others) == 1 and len(found) > 1:
        whole = sum(_with_set_aside(one) for one in found.values()) / len(found)
        after.append(f"With all these counted, the mean of these sources is {whole:.3f}.")
    header = ["source", "scale", "posts", "left out", "95% interval", *(f"of {side} ones" for side in CLASSES_TWO)]
    header += ["taught by", "teacher", "95% interval", "posts held out", "learnt from", "95% interval"]
    return "\n\n".join([told, _table(header, rows), *([" ".join(after)] if after else [])])


def _told_aside(source: str, one: Figures) -> str:
    aside = one["set_aside"]
    return (
        f"Of {source} {aside['posts']:,} posts with a side are set aside from the training of every mixed recipe, and"
        f" from the figure above, since {WHY_ASIDE[source]} (other sources may have copies of some): left out, it gets"
        f" {aside['two_class_accuracy']:.3f} ({_range(aside['interval'])}) of these, and"
        f" {_with_set_aside(one):.3f} with them counted."
    )


def _with_set_aside(one: Figures) -> float:
    """Accuracy on all posts of a source that have a side."""
    parts = [one, *([one["set_aside"]] if "set_aside" in one else [])]
    return float(np.average([part["two_class_accuracy"] for part in parts], weights=[part["posts"] for part in parts]))


def told_of_others(found: Figures) -> str:
    """What the figures of sources left out are worth, and of which sources there are none."""
    told = (
        "The shipped recipe was chosen with such figures of its earlier forms in sight: they are of a development set"
        " more than of a test."
    )
    others = sorted(set(FILES) - set(found))
    return f"{told} Not measured so: {', '.join(others)}." if others else told


def _by_side(one: Figures) -> list[str]:
    """Empty where the figures are of before sides were told apart."""
    found = one.get("by_side", {})
    return [f"{found[side]:.3f}" if side in found else "" for side in CLASSES_TWO]


def _mean(found: Sequence[Figures]) -> list[str]:
    """The mean and its 95% interval: their posts are independent, so distances to the ends add as deviations do."""
    accuracies = [one["two_class_accuracy"] for one in found]
    mean = sum(accuracies) / len(found)
    low, high = (
        hypot(*(one["interval"][end] - accuracy for one, accuracy in zip(found, accuracies, strict=True))) / len(found)
        for end in (0, 1)
    )
    return [f"{mean:.3f}", _range((mean - low, mean + high))]


def _sided(one: Figures | None) -> list[str]:
    if one is None:
        return ["", "", ""]
    return [f"{one['posts']:,}", f"{one['two_class_accuracy']:.3f}", _range(one["interval"])]
