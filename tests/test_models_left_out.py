"""Figures of sources left out: those not of the bundle's own recipe and kind of teacher are marked."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from models.card_sections import WHY_ASIDE, render_hold_outs, told_of_others
from models.corpora import SET_ASIDE
from models.hold_out_source import measure_without
from models.left_out import default_teacher, digest_of, mark_others
from models.protocol import without_source
from models.recipe import NetworkPlan, Recipe, RecipeError, Stage, find_recipe

SIDED: dict[str, Any] = {"posts": 9, "two_class_accuracy": 0.5, "interval": [0.4, 0.6]}
STAGE = Stage("only", 3, 0.01, {"semeval": 90, "tweet_extraction": 60, "uci": 30})
PLAN = Recipe("own", "", (), "subword", (STAGE,), teacher_share=0.5)
LARGER = {"teachers": [{"sha256": "1", "recipe": "social-teacher-mpnet"}]}


def told(plan: Recipe, **more: Any) -> dict[str, Any]:
    """What a manifest says of a training."""
    return {"recipe": asdict(plan)} | more


def left_out(source: str, plan: Recipe = PLAN, scale: str = "small", teacher: str | None = None) -> dict[str, Any]:
    """What is measured of a source."""
    one = SIDED | {"left_out": [source], "scale": scale}
    one["recipe_sha256"] = digest_of(without_source(plan, [source], scale))
    return one if teacher is None else one | {"teacher": SIDED | {"recipe": teacher}}


def is_marked(one: dict[str, Any], trained: dict[str, Any]) -> bool:
    """Whether it is, beside a bundle that was trained so."""
    return bool(mark_others({"uci": one}, trained)["uci"].get("other_recipe"))


@pytest.mark.parametrize("scale", ["small", "full"])
def test_a_source_left_out_of_another_recipe_is_marked(scale: str) -> None:
    """Whatever differs of it but seed and description; the mark goes where the bundle is again of that recipe."""
    one = left_out("uci", scale=scale)
    assert not is_marked(one, told(PLAN))
    assert not is_marked(one, told(replace(PLAN, seed=7, description="in other words")))
    for other in (
        replace(PLAN, clip=0.5),
        replace(PLAN, network=NetworkPlan(dropout=0.7)),
        replace(PLAN, stages=(replace(STAGE, learning_rate=0.02),)),
        replace(PLAN, stages=(replace(STAGE, posts={"semeval": 99, "tweet_extraction": 60, "uci": 30}),)),
        replace(PLAN, stages=(replace(STAGE, posts={"uci": 1}),)),  # learns from no other source
    ):
        assert is_marked(one, told(other))
    assert is_marked(one, {})
    assert not is_marked(one | {"other_recipe": True}, told(PLAN))
    assert is_marked(one | {"scale": "full" if scale == "small" else "small"}, told(PLAN))
    assert is_marked({key: one[key] for key in one if key != "recipe_sha256"}, told(PLAN))


def test_so_is_one_that_another_kind_of_teacher_taught() -> None:
    """Figures without a teacher stand for themselves."""
    larger, smaller = (left_out("uci", teacher=name) for name in ("social-teacher-mpnet", "social-teacher"))
    assert [is_marked(one, told(PLAN, **LARGER)) for one in (larger, smaller)] == [False, True]
    assert [is_marked(one, told(PLAN)) for one in (larger, smaller)] == [True, False]
    assert not is_marked(left_out("uci"), told(PLAN, **LARGER))
    both = {"teachers": [*LARGER["teachers"], {"sha256": "2", "recipe": "social-teacher"}]}
    assert [is_marked(one, told(PLAN, **both)) for one in (larger, smaller)] == [False, False]
    own = left_out("uci", teacher="of-my-own")
    assert is_marked(own, told(PLAN, **both))
    by_own = told(PLAN, teachers=[{"sha256": "1", "recipe": "of-my-own"}])
    assert [is_marked(one, by_own) for one in (own, smaller)] == [False, True]
    assert is_marked({**smaller, "teacher": {"posts": 9}}, told(PLAN, **both))  # of before recipes were noted


def test_a_key_that_recipes_get_later_marks_nothing() -> None:
    """As long as it has the value that does what was done without it."""

    @dataclass(frozen=True)
    class Later(Recipe):
        invented: float = 0.25

    later = Later(**{key: getattr(PLAN, key) for key in asdict(PLAN)})
    assert digest_of(later) == digest_of(PLAN)
    assert digest_of(replace(later, invented=0.5)) != digest_of(PLAN)


def test_the_table_has_the_mark_and_a_mean_of_one_kind_alone() -> None:
    """What is marked and what is not are not averaged."""
    found = {"uci": left_out("uci"), "semeval": left_out("semeval", replace(PLAN, clip=0.5), "full")}
    text = render_hold_outs(mark_others(found, told(PLAN)), {})
    assert "| semeval | full* | 9 |" in text
    assert "| uci | small | 9 |" in text
    assert "*: by another recipe than this bundle's" in text
    assert "mean of these sources" not in text
    for alike in ({"uci": found["uci"]}, {"semeval": found["semeval"]}):
        text = render_hold_outs(mark_others(alike, told(PLAN)), {})
        assert "| mean of these sources |  |  | 0.500 | 0.400 to 0.600 |" in text
        assert ("*:" in text) == ("semeval" in alike)


def test_the_table_names_the_recipe_of_each_teacher() -> None:
    """Rows of any kind of teacher that the bundle had have one mean."""
    kinds = {"uci": "social-teacher", "semeval": "social-teacher-mpnet"}
    found = {source: left_out(source, teacher=kind) for source, kind in kinds.items()}
    text = render_hold_outs(found, {})
    for source, kind in kinds.items():
        assert f"| {source} | small | 9 | 0.500 | 0.400 to 0.600 |  |  | {kind} | 0.500 | 0.400 to 0.600 |" in text
    mean = "0.500 | 0.429 to 0.571"  # 0.1 / sqrt(2)
    assert f"| mean of these sources |  |  | {mean} |  |  |  | {mean} |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert "The mean is of all, whatever taught them" in text
    assert "as many posts of either side" not in text  # the sides were not told apart
    assert "The mean" not in render_hold_outs({"uci": found["uci"]}, {})


def test_the_table_tells_what_it_does_not_measure() -> None:
    """Posts that were set aside, with them counted, and sources that were never left out."""
    found = {"uci": left_out("uci") | {"set_aside": SIDED | {"posts": 27, "two_class_accuracy": 0.9}}}
    text = render_hold_outs(found, {})
    assert "Of uci 27 posts with a side are set aside" in text
    assert "it gets 0.900 (0.400 to 0.600) of these, and 0.800 with them counted." in text  # (9 x 0.5 + 27 x 0.9) / 36
    assert "the mean of these sources is" not in text  # there is one
    text = render_hold_outs(found | {"sanders": left_out("sanders")}, {})
    assert "With all these counted, the mean of these sources is 0.650." in text  # (0.8 + 0.5) / 2
    assert told_of_others(found).endswith(
        "Not measured so: crowdflower, emoticon2011, goemotions, sanders, semeval,"
        " sentiment140, sst_phrases, sst_sentences, tweet_extraction, twitter_entity."
    )
    assert "set aside" not in render_hold_outs({"sanders": left_out("sanders")}, {})
    assert set(WHY_ASIDE) == set(SET_ASIDE)


@pytest.mark.parametrize(
    ("recipes", "chosen"),
    [
        ([], "social-teacher"),
        ([None], "social-teacher"),  # of before recipes were noted
        (["of-my-own"], "social-teacher"),
        (["of-my-own", "social-teacher-mpnet"], "social-teacher-mpnet"),
        (["social-teacher-mpnet", "social-teacher"], "social-teacher-mpnet"),
    ],
)
def test_a_source_left_out_has_a_teacher_as_the_bundle_had(recipes: list[str | None], chosen: str) -> None:
    """Of the first shipped recipe; the smaller one where none of the bundle's is shipped."""
    teachers = [{"sha256": str(n)} | ({"recipe": recipe} if recipe else {}) for n, recipe in enumerate(recipes)]
    assert default_teacher({"teachers": teachers}) == chosen


@pytest.mark.parametrize("recipe", ["social-gru", "imdb-gru", "bow-svm"])
def test_a_source_is_left_out_with_a_recipe_of_a_teacher_alone(recipe: str, tmp_path: Path) -> None:
    """Any other is refused before anything is read."""
    with pytest.raises(RecipeError, match=f"{recipe} is no recipe of a teacher: .* as that of social-teacher or"):
        measure_without("uci", tmp_path / "none", tmp_path, teacher=recipe)


def test_a_teacher_is_not_called_as_its_pupil(tmp_path: Path) -> None:
    """Their bundles would lie in one folder."""
    own = tmp_path / "own.yaml"
    shipped = find_recipe("social-teacher").read_text(encoding="utf-8")
    own.write_text(shipped.replace("name: social-teacher", "name: social-gru"), encoding="utf-8")
    with pytest.raises(RecipeError, match="another name than its pupil's, social-gru"):
        measure_without("uci", tmp_path / "none", tmp_path, teacher=own)


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}.yaml", ""])
def test_a_name_that_is_no_recipe(name: str) -> None:
    """One that is too long for a file, too."""
    with pytest.raises(RecipeError, match=r"no recipe is called|is no file"):
        find_recipe(name)
