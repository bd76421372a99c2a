"""A transformer teaches a network: its sums are BERT's, its pupils learn what it says, and it is never served."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import RECIPE, VOCABULARY, labelled_rows, one_thread, write_corpora, write_labelled
from torch import Tensor

from models import precision, soft_labels, teacher
from models.bundle import Bundle
from models.corpora import Corpus, CorpusError, corpus_of, load_sources
from models.hold_out_source import measure_without, prepare
from models.manifest import BundleError, read_manifest
from models.measures import FloatArray
from models.mixture import FEELINGS_OF_LABEL, EncodedCorpus, Mixture
from models.preparation import PLACEHOLDERS
from models.protocol import sided_accuracy
from models.recipe import RecipeError, find_recipe, read_recipe
from models.sentence_encoder import SentenceClassifier, kinds_of_distance, pretrained, teacher_vocabulary
from models.soft_labels import taught_by
from models.teacher import Teacher
from models.train import _fingerprint, _with_teachers, train
from models.trainer import logits_of, states_and_logits_of

pytestmark = pytest.mark.long  # networks are trained: `make test-long`

WIDTH, LAYERS, HEADS, INNER, POSITIONS, KINDS = 16, 2, 4, 24, 40, 8
NEW = ["great", "nice", "awful", "opens", "acme"]
WORDS = ["[PAD]", "[CLS]", "[SEP]", *NEW, *(word for word in VOCABULARY if word not in PLACEHOLDERS)]
SOURCES = [
    "semeval",
    "tweet_extraction",
    "crowdflower",
    "goemotions",
    "sst_sentences",
    "twitter_entity",
    "sanders",
    "uci",
]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Training on one thread."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as that of all-MiniLM-L6-v2, of a small encoder with random weights."""
    return write_encoder(tmp_path_factory.mktemp("encoder"), WORDS, stored_sizes(), {"layer_norm_eps": 1e-12})


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as that of all-mpnet-base-v2: its tokens begin with other marks, its places two later."""
    words = ["<s>", "<pad>", "</s>", *WORDS[3:]]
    sizes = {"layer_norm_eps": 1e-5, "pad_token_id": 1}
    return write_encoder(tmp_path_factory.mktemp("mpnet"), words, mpnet_sizes(), sizes)


def write_encoder(
    folder: Path, words: Sequence[str], stored: dict[str, tuple[int, ...]], more: dict[str, float]
) -> Path:
    """The files of an encoder with random weights of the sizes that are `stored`."""
    sizes = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER}
    (folder / "config.json").write_text(json.dumps(sizes | {"max_position_embeddings": POSITIONS} | more))
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    torch.manual_seed(3)
    found = {name: name.endswith("LayerNorm.weight") + 0.2 * torch.randn(size) for name, size in stored.items()}
    save_file(found, folder / "model.safetensors")
    return folder


def stored_sizes() -> dict[str, tuple[int, ...]]:
    """Tensors of a BERT encoder by the names that all-MiniLM-L6-v2 has."""
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    parts = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
    parts |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH)}
    parts |= {"output.dense": (WIDTH, INNER)}
    for layer in range(LAYERS):
        for name, size in parts.items():
            sizes |= {f"encoder.layer.{layer}.{name}.weight": size, f"encoder.layer.{layer}.{name}.bias": size[:1]}
        for name in ("attention.output", "output"):
            for end in ("weight", "bias"):
                sizes[f"encoder.layer.{layer}.{name}.LayerNorm.{end}"] = (WIDTH,)
    return sizes


MPNET_NAMES = {
    "attention.self.query": "attention.attn.q",
    "attention.self.key": "attention.attn.k",
    "attention.self.value": "attention.attn.v",
    "attention.output.dense": "attention.attn.o",
    "attention.output.LayerNorm": "attention.LayerNorm",
}


def mpnet_sizes() -> dict[str, tuple[int, ...]]:
    """Tensors of an MPNet encoder by the names that all-mpnet-base-v2 has."""
    sizes = stored_sizes()
    for old, new in MPNET_NAMES.items():
        sizes = {name.replace(old, new): size for name, size in sizes.items()}
    del sizes["embeddings.token_type_embeddings.weight"]
    return sizes | {"encoder.relative_attention_bias.weight": (KINDS, HEADS)}


class Bert:
    """Devlin et al. 2019, one post at a time, in NumPy and by the stored names: no line of it is the network's."""

    epsilon = 1e-12

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        self.stored = {
            name: array.astype(np.float64) for name, array in load_file(folder / "model.safetensors").items()
        }

    def mean_state(self, ids: Sequence[int]) -> FloatArray:
        """(D,): the mean of the last layer's states of a post, marks of beginning and end included."""
        get = self.stored.__getitem__
        states = get("embeddings.word_embeddings.weight")[list(ids)]
        states = self._norm(states + self._places(len(ids)), "embeddings.LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            mixed = self._linear(self._attended(states, at), f"{at}{self.name('attention.output.dense')}")
            states = self._norm(states + mixed, f"{at}{self.name('attention.output.LayerNorm')}")
            inner = self._linear(states, f"{at}intermediate.dense")
            erf = torch.erf(torch.tensor(inner / np.sqrt(2.0))).numpy()
            states = self._norm(
                states + self._linear(inner * (1 + erf) / 2, f"{at}output.dense"), f"{at}output.LayerNorm"
            )
        mean: FloatArray = states.mean(axis=0)
        return mean

    def name(self, name: str) -> str:
        return name

    def bias(self, n_tokens: int, head: int) -> FloatArray | float:  # noqa: ARG002 - that of another encoder
        """(T, T), added to what a token has to do with another."""
        return 0.0

    def _places(self, n_tokens: int) -> FloatArray:
        found: FloatArray = self.stored["embeddings.position_embeddings.weight"][:n_tokens].copy()
        found += self.stored["embeddings.token_type_embeddings.weight"][0]
        return found

    def _attended(self, states: FloatArray, at: str) -> FloatArray:
        names = [f"{at}{self.name(f'attention.self.{part}')}" for part in ("query", "key", "value")]
        query, key, value = (self._linear(states, name) for name in names)
        size = WIDTH // HEADS
        parts = []
        for head in range(HEADS):
            columns = slice(head * size, (head + 1) * size)
            close = query[:, columns] @ key[:, columns].T / np.sqrt(size)
            weights = np.exp(close + self.bias(len(states), head))
            parts.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, columns])
        return np.concatenate(parts, axis=1)

    def _linear(self, states: FloatArray, name: str) -> FloatArray:
        found: FloatArray = states @ self.stored[f"{name}.weight"].T + self.stored[f"{name}.bias"]
        return found

    def _norm(self, states: FloatArray, name: str) -> FloatArray:
        centred = states - states.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + self.epsilon)
        found: FloatArray = scaled * self.stored[f"{name}.weight"] + self.stored[f"{name}.bias"]
        return found


class Mpnet(Bert):
    """Song et al. 2020: BERT with a bias for the distance of two tokens, and places that begin after the padding's."""

    epsilon = 1e-5

    def name(self, name: str) -> str:
        return MPNET_NAMES[name]

    def _places(self, n_tokens: int) -> FloatArray:
        found: FloatArray = self.stored["embeddings.position_embeddings.weight"][2 : n_tokens + 2]
        return found

    def bias(self, n_tokens: int, head: int) -> FloatArray:
        """With eight kinds: the token itself, one before, 2 to 15 before, more; one ahead, 2 to 15 ahead, more."""
        per_kind = self.stored["encoder.relative_attention_bias.weight"][:, head]
        found = np.empty((n_tokens, n_tokens))
        for token in range(n_tokens):
            for other in range(n_tokens):
                far = abs(other - token)
                found[token, other] = per_kind[(4 if other > token else 0) + (far if far < 2 else 2 if far < 16 else 3)]
        return found


@pytest.mark.parametrize("kind", [Bert, Mpnet])
def test_the_encoder_computes_what_its_paper_says(kind: type[Bert], request: pytest.FixtureRequest) -> None:
    """Alone and beside a longer post, whose padding is not read; the output is the only part that is new."""
    folder: Path = request.getfixturevalue("encoder" if kind is Bert else "mpnet")
    network = pretrained(folder, teacher_vocabulary(folder), 3, 0.1)
    by_hand, posts = kind(folder), [[9, 4, 5], [7], [3, 8, 8, 6, 10, 4], [3, 4, 5, 6, 7] * 4]
    first, last = (1, 2) if kind is Bert else (0, 2)
    expected = np.stack([by_hand.mean_state([first, *ids, last]) for ids in posts])
    output = network.output.weight.detach().numpy().T, network.output.bias.detach().numpy()
    for batch in (1, 4):
        assert np.abs(logits_of(network, posts, batch) - (expected @ output[0] + output[1])).max() < 1e-5
        states, logits = states_and_logits_of(network, posts, batch)
        assert np.abs(states - expected).max() < 1e-5
        assert np.array_equal(logits, logits_of(network, posts, batch))


def test_near_tokens_have_kinds_of_distance_of_their_own() -> None:
    """As T5's code has them, with 32 kinds: 0 to 7 before, then ever more at once; the same ahead, 16 higher."""
    kinds = kinds_of_distance(301, 32)
    before = {0: 0, 1: 1, 7: 7, 8: 8, 11: 8, 12: 9, 16: 10, 32: 12, 64: 14, 91: 15, 128: 15, 300: 15}
    assert {far: int(kinds[300, 300 - far]) for far in before} == before
    assert {far: int(kinds[0, far]) for far in before if far} == {far: 16 + kind for far, kind in before.items() if far}


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    """Three hundred labelled posts."""
    return list(labelled_rows(300))


def master_text() -> str:
    """The recipe of a teacher."""
    text = RECIPE.replace("name: tiny", "name: master").replace("epochs: 3", "epochs: 10").replace("0.02,", "0.004,")
    kept = [line for line in text.splitlines() if not line.startswith(("network:", "vocabulary:"))]
    return "\n".join([*kept, "network: {kind: sentence_encoder}"])


@pytest.fixture(scope="module")
def trained(rows: list[tuple[str, str]], encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A teacher that has learnt them."""
    folder = tmp_path_factory.mktemp("teacher")
    recipe = folder / "master.yaml"
    recipe.write_text(master_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "encoder_folder", lambda _: encoder)
        patch.setattr("models.train.encoder_folder", lambda *_: encoder)
        yield train(recipe, write_labelled(folder / "posts.csv", rows), folder / "master")


def test_a_larger_teacher_learns_in_half_precision(
    mpnet: Path, rows: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the processor has it: other weights than in single precision, which it has elsewhere, and as good ones.
    What it says is in its bundle, and what it is in what a pupil tells of it.
    """
    monkeypatch.setattr(teacher, "encoder_folder", lambda _: mpnet)
    monkeypatch.setattr("models.train.encoder_folder", lambda *_: mpnet)
    posts = write_labelled(tmp_path / "posts.csv", rows)
    kept = [line for line in master_text().splitlines() if not line.startswith("network:")]
    kept.append("network: {kind: sentence_encoder, encoder: mpnet}")
    weights = []
    for wanted, has_it in ((False, True), (True, False), (True, True)):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _, has_it=has_it: has_it)
        recipe = tmp_path / "master.yaml"
        recipe.write_text("\n".join([*kept, f"half_precision: {str(wanted).lower()}"]))
        folder = train(recipe, posts, tmp_path / f"master-{wanted}-{has_it}")
        weights.append((folder / "weights.safetensors").read_bytes())
        master = Teacher(folder)
        truth = np.array([["negative", "neutral", "positive"].index(label) for _, label in rows])
        assert (master.probabilities([text for text, _ in rows]).argmax(axis=1) == truth).mean() > 0.9
        told = master.told()
        assert (told["recipe"], told["encoder"]) == ("master", "mpnet")
        assert told["scale"] == "full"
        assert (told["seed"], set(told["data_sha256"])) == (read_recipe(recipe).seed, {"posts.csv"})
    assert weights[0] == weights[1] != weights[2]


def test_a_teacher_learns_and_is_not_served(trained: Path, rows: list[tuple[str, str]]) -> None:
    """Its bundle has no report and is of a kind that nothing serves; read again it says the same to the last bit."""
    master = Teacher(trained)
    probabilities = master.probabilities([text for text, _ in rows])
    truth = np.array([["negative", "neutral", "positive"].index(label) for _, label in rows])
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.95
    assert np.array_equal(Teacher(trained).probabilities([rows[0][0]]), master.probabilities([rows[0][0]]))
    assert not (trained / "report.json").exists()
    with pytest.raises(BundleError, match="sentence_encoder"):
        Bundle.load(trained, "cpu")


@pytest.mark.parametrize(("name", "longest"), [("encoder", POSITIONS - 2), ("mpnet", POSITIONS - 4)])
def test_the_same_seed_gives_the_same_teacher(
    name: str, longest: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was drawn before: its output for the classes is new. Posts longer than its places are refused."""
    folder = request.getfixturevalue(name)
    monkeypatch.setattr(teacher, "encoder_folder", lambda _: folder)
    plan = replace(read_recipe(find_recipe("social-teacher")), max_tokens=longest)
    first = teacher.new_teacher(plan)[1].state_dict()
    torch.rand(3)
    again = teacher.new_teacher(plan)[1].state_dict()
    other = teacher.new_teacher(replace(plan, seed=1))[1].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])
    assert np.isfinite(logits_of(teacher.new_teacher(plan)[1], [[4] * longest])).all()
    with pytest.raises(RecipeError, match=f"max_tokens {longest + 1} is more than the encoder's {longest}"):
        teacher.new_teacher(replace(plan, max_tokens=longest + 1))


def test_an_encoder_that_is_missing_is_missed_before_posts_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that the recipe names, and no other."""

    def missing(name: str = "minilm") -> Path:
        raise RecipeError(f"no {name}")

    monkeypatch.setattr("models.train.encoder_folder", missing)
    posts = write_labelled(tmp_path / "posts.csv", labelled_rows(300))
    monkeypatch.setattr("models.train.load_posts", lambda *_: pytest.fail("posts are read"))
    for recipe, encoder in (("social-teacher", "minilm"), ("social-teacher-mpnet", "mpnet")):
        with pytest.raises(RecipeError, match=f"no {encoder}"):
            train(recipe, posts, tmp_path / "out")


def pupil_recipe(folder: Path, share: float) -> Path:
    """A recipe whose targets are the teacher's by this share."""
    path = folder / f"pupil-{share}.yaml"
    path.write_text(RECIPE.replace("name: tiny", "name: pupil") + f"teacher_share: {share}\nhint_weight: {share / 2}\n")
    return path


def test_a_pupil_learns_what_its_teacher_says(trained: Path, rows: list[tuple[str, str]], tmp_path: Path) -> None:
    """From posts with wrong labels, where the teacher has all the say; with half of it the labels count, too."""
    wrong = {"negative": "positive", "neutral": "negative", "positive": "neutral"}
    posts = write_labelled(tmp_path / "wrong.csv", [(text, wrong[label]) for text, label in rows])
    found = {}
    for share in (0.0, 1.0):
        masters = [trained] if share else []
        folder = train(pupil_recipe(tmp_path, share), posts, tmp_path / f"pupil-{share}", teachers=masters)
        logits = Bundle.load(folder, "cpu").logits([text for text, _ in rows])
        names = np.array(["negative", "neutral", "positive"])[logits.argmax(axis=1)]
        found[share] = np.mean(names == np.array([label for _, label in rows]))
        assert ("teachers" in read_manifest(folder).trained) == bool(share)
        card = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
        assert ("cosine distance, weight 0.5" in card) == bool(share)
        assert ("100% of what it was to say of a post is what a teacher says" in card) == bool(share)
        assert ("too slow to serve: all-MiniLM-L6-v2 (`sentiment-monitor model train master`)" in card) == bool(share)
        assert len(list(tmp_path.glob(f"pupil-{share}.*.soft-labels"))) == len(masters)
    assert found[1.0] > 0.9
    assert found[0.0] < 0.1


def test_what_a_teacher_cannot_be_used_for_is_said_at_once(trained: Path, tmp_path: Path) -> None:
    """A recipe that has no share for one, posts that it has seen and the pupil holds out, a bundle that is none."""
    posts = write_labelled(tmp_path / "posts.csv", labelled_rows(300))
    others = write_labelled(tmp_path / "others.csv", labelled_rows(300, seed=9))
    with pytest.raises(RecipeError, match="no teacher_share"):
        train(pupil_recipe(tmp_path, 0.0), posts, tmp_path / "out", teachers=[trained])
    with pytest.raises(RecipeError, match="names the same teacher twice"):
        train(pupil_recipe(tmp_path, 0.5), posts, tmp_path / "out", teachers=[trained, trained])
    with pytest.raises(RecipeError, match="posts that pupil holds out"):
        train(pupil_recipe(tmp_path, 0.5), others, tmp_path / "out", teachers=[trained])
    pupil = train(pupil_recipe(tmp_path, 0.5), posts, tmp_path / "pupil", teachers=[trained])
    with pytest.raises(BundleError, match="is no teacher"):
        train(pupil_recipe(tmp_path, 0.5), posts, tmp_path / "out", teachers=[pupil])
    with pytest.raises(RecipeError, match="--init has no use"):
        train("social-teacher", posts, tmp_path / "out", init=pupil)
    with pytest.raises(RecipeError, match="--teacher has no use"):
        train("imdb-gru", posts, tmp_path / "out", teachers=[trained])


@pytest.mark.parametrize("line", ["half_precision: true", "network: {encoder: mpnet}"])
def test_what_is_for_teachers_is_refused_elsewhere(line: str, tmp_path: Path) -> None:
    """A network that is served has neither."""
    recipe = tmp_path / "pupil.yaml"
    kept = [row for row in RECIPE.splitlines() if line.split(":", maxsplit=1)[0] not in row]
    recipe.write_text("\n".join([*kept, line]))
    with pytest.raises(RecipeError, match=r"recipe pupil\.yaml: .* is for a sentence_encoder"):
        read_recipe(recipe)


def test_a_recipe_for_the_corpora_needs_its_teacher(tmp_path: Path) -> None:
    """Said with the two commands, before a corpus is read."""
    with pytest.raises(RecipeError, match=r"model train social-teacher.*--teacher"):
        train("social-gru", tmp_path, tmp_path / "out")


def test_half_precision_says_nearly_the_same(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities of both precisions, of posts of several lengths; they are not the same numbers."""
    texts = [" ".join(["great", "awful", "opens", "monday"][: 1 + i % 4] * (1 + i % 7)) for i in range(60)]
    found = {}
    for is_half in (False, True):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _, is_half=is_half: is_half)
        found[is_half] = Teacher(trained).probabilities(texts)
    difference = np.abs(found[True] - found[False])
    assert 0 < difference.max() < 0.05
    assert difference.mean() < 0.005


def recipes_of_both(folder: Path) -> tuple[Path, Path]:
    """A pupil's and its teacher's."""
    stage = "stages:\n  - {name: only, epochs: 1, learning_rate: 0.02, posts: {semeval: 60, tweet_extraction: 60}}\n"
    text = RECIPE.split("stages:")[0] + "development_posts: 30\ncalibration_posts: 20\n" + stage
    pupil, master = folder / "pupil.yaml", folder / "master.yaml"
    pupil.write_text(text.replace("name: tiny", "name: pupil") + "teacher_share: 0.5\n")
    kept = [line for line in text.splitlines() if not line.startswith(("network:", "vocabulary:"))]
    master.write_text("\n".join([*kept, "network: {kind: sentence_encoder}"]).replace("name: tiny", "name: master"))
    return pupil, master


def test_a_source_left_out_is_left_out_of_the_teachers_training_too(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pupil has a teacher of its own, kept as the pupil is; another teacher's recipe trains both."""
    monkeypatch.setattr(teacher, "encoder_folder", lambda _: encoder)
    monkeypatch.setattr("models.train.encoder_folder", lambda *_: encoder)
    pupil, master = recipes_of_both(tmp_path)
    corpora, out = write_corpora(tmp_path), tmp_path / "out"

    def measure() -> list[int]:
        found = measure_without("semeval", corpora, out, pupil, master)
        assert found["left_out"] == ["semeval"]
        assert found["teacher"] == {"recipe": "master"} | sided_accuracy(
            Teacher(out / "master-without-semeval").probabilities, load_sources(corpora, ["semeval"])["semeval"]
        )
        assert found["teacher"]["posts"] == found["posts"]
        return [(out / f"{name}-without-semeval" / "manifest.json").stat().st_mtime_ns for name in ("master", "pupil")]

    made_at = measure()
    trained = read_manifest(out / "pupil-without-semeval").trained
    assert [told["sha256"] for told in trained["teachers"]] == [read_manifest(out / "master-without-semeval").sha256]
    assert read_manifest(out / "master-without-semeval").trained["recipe"]["stages"][0]["posts"] == {
        "tweet_extraction": 120
    }
    assert measure() == made_at
    master.write_text(master.read_text().replace("seed: 5", "seed: 6"))
    assert all(later > before for later, before in zip(measure(), made_at, strict=True))
    made_at = measure()
    master.write_text(f"{master.read_text()}\nmeasuring_posts: 5\n")  # of which a training without a source has none
    assert measure() == made_at
    master.write_text(master.read_text().replace("calibration_posts: 20", "calibration_posts: 21"))
    with pytest.raises(RecipeError, match="master and pupil do not hold out the same posts without semeval"):
        measure()
    assert (out / "master-without-semeval" / "manifest.json").stat().st_mtime_ns == made_at[0]


def test_what_hinders_a_pupil_is_told_before_its_teacher_is_trained(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every source; nothing is trained until then."""
    monkeypatch.setattr("models.hold_out_source.train", lambda *_, **__: pytest.fail("a training began"))
    pupil, master = recipes_of_both(tmp_path)
    pupil.write_text(pupil.read_text().replace("start: texts", "start: encoder"))
    corpora, out, sources = write_corpora(tmp_path), tmp_path / "out", ["tweet_extraction", "semeval"]

    def refused(match: str) -> None:
        with pytest.raises(RecipeError, match=match):
            prepare(sources, corpora, out, pupil, master)

    def only_the_teachers(*name: str) -> Path:
        if not name:
            raise RecipeError("these vectors are not installed")
        return encoder

    monkeypatch.setattr("models.train.encoder_folder", only_the_teachers)
    refused("these vectors are not installed")
    monkeypatch.setattr("models.train.encoder_folder", lambda *_: encoder)
    folder = out / "pupil-without-semeval"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    refused("pupil-without-semeval holds other files than a bundle's, such as notes.txt")
    (folder / "notes.txt").unlink()
    (folder / "manifest.json").write_text("{}")  # the rest of a training that was cut off
    assert [one.source for one in prepare(sources, corpora, out, pupil, master)] == sources
    master.write_text(master.read_text().replace(", tweet_extraction: 60", ""))
    refused("stage only has no posts without semeval")
    with pytest.raises(CorpusError, match="no corpus is called uic"):
        prepare(["semeval", "uic"], corpora, out, pupil, master)
    with pytest.raises(CorpusError, match="is one file: a source is left out of the corpora"):
        prepare(sources, pupil, out, pupil, master)


@pytest.mark.parametrize("master", ["social-teacher", "social-teacher-mpnet"])
def test_a_teacher_and_its_pupil_hold_out_the_same_posts(master: str) -> None:
    """The shipped recipes: what decides it is equal in both."""
    one, other = (read_recipe(find_recipe(name)) for name in (master, "social-gru"))
    for plan in (one, other):
        measured = plan.stages[-1].posts.keys() - {"sentiment140", "emoticon2011", "composed"}  # two classes, generated
        assert measured == set(SOURCES)
    assert one.development_posts == other.development_posts
    assert (one.calibration_posts, one.measuring_posts) == (other.calibration_posts, other.measuring_posts)


class Counting:
    """A teacher that says how often it was asked, and may be interrupted."""

    def __init__(self, sha256: str = "counting", positive: float = 0.5, width: int = 2) -> None:
        self.sha256, self.positive, self.width = sha256, positive, width
        self.asked: list[str] = []
        self.patience = 10**9

    def say(self, texts: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        if len(self.asked) + len(texts) > self.patience:
            raise KeyboardInterrupt
        self.asked.extend(texts)
        probabilities = np.tile([0.2, 0.8 - self.positive, self.positive], (len(texts), 1))
        more = [9] * (self.width - 2)
        return probabilities, np.array([[int(text.split()[-1]), self.positive, *more] for text in texts], np.float64)


def test_soft_labels_are_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the posts that are drawn alone; an interrupted call goes on where it was, and other posts start anew."""
    plan = read_recipe(find_recipe("social-gru"))
    stage = plan.stages[-1].__class__("one", 2, 0.01, {"uci": 30})
    corpus = corpus_of((f"text {number}", "neutral" if number % 2 else "positive") for number in range(100))
    encoded = {"uci": EncodedCorpus.of([[1]] * 100, corpus.labels)}
    encoded["composed"] = EncodedCorpus.of([[1], [2]], [0, 1])
    plan = plan.__class__("", "", (), "subword", (stage,), untaught=("composed",))
    mixtures = [Mixture(plan, 0, encoded, {})]
    monkeypatch.setattr(soft_labels, "CHUNK_POSTS", 8)
    monkeypatch.setattr(soft_labels, "SAVE_S", -1.0)
    counting, kept = Counting(), tmp_path / "kept"

    def call(posts: Corpus) -> EncodedCorpus:
        corpora = {"uci": posts, "composed": corpus_of([("great", "positive"), ("awful", "negative")])}
        found = taught_by([counting], corpora, encoded, mixtures, kept)  # type: ignore[list-item]
        assert found["composed"] is encoded["composed"]
        return found["uci"]

    counting.patience = 20
    with pytest.raises(KeyboardInterrupt):
        call(corpus)
    counting.patience = 10**9
    taught = call(corpus).taught
    assert taught is not None
    assert len(counting.asked) == len(set(counting.asked)) == 60
    assert np.isnan(taught[:, 0]).sum() == 40
    assert call(corpus).taught is not None
    assert len(counting.asked) == 60
    call(corpus_of((f"other {number}", "neutral") for number in range(100)))
    assert len(counting.asked) == 120


def test_of_several_teachers_the_mean_is_learnt(tmp_path: Path) -> None:
    """What each one says is kept in a file of its own. For hints, which are each one's states, they are asked again;
    those of a narrower teacher end in zeros."""
    plan = read_recipe(find_recipe("social-gru"))
    stage = plan.stages[-1].__class__("one", 1, 0.01, {"uci": 10})
    plan = plan.__class__("", "", (), "subword", (stage,), teacher_share=1.0)
    corpus = corpus_of((f"text {number}", "neutral") for number in range(20))
    encoded = {"uci": EncodedCorpus.of([[1]] * 20, corpus.labels)}
    masters = [Counting("aaaaaaaaaa", 0.5), Counting("bbbbbbbbbb", 0.1, width=3)]

    def call(weight: float) -> EncodedCorpus:
        mixture = Mixture(replace(plan, hint_weight=weight), 0, encoded, {})
        return taught_by(masters, {"uci": corpus}, encoded, [mixture], tmp_path / "pupil")["uci"]  # type: ignore[arg-type]

    for weight, n_asked in ((0.0, 10), (1.0, 20), (1.0, 20), (0.0, 20)):
        found = call(weight)
        assert found.taught is not None
        drawn = ~np.isnan(found.taught[:, 0])
        assert drawn.sum() == 10
        assert np.allclose(found.taught[drawn], [0.2, 0.5, 0.3])
        assert [len(master.asked) for master in masters] == [n_asked, n_asked]
        assert (found.hints is not None) == bool(weight)
        if found.hints is not None:
            expected = np.array([[[i, 0.5, 0], [i, 0.1, 9]] for i in np.flatnonzero(drawn)])
            assert np.allclose(found.hints[drawn], expected, atol=1e-3)
            assert np.isnan(found.hints[~drawn]).sum(axis=2).tolist() == [[2, 3]] * 10  # all but the zeros
    assert {path.name for path in tmp_path.iterdir()} == {"pupil.aaaaaaaa.soft-labels", "pupil.bbbbbbbb.soft-labels"}


def test_hints_are_of_teachers_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be of different widths; a checkpoint of the same ones turned round begins anew."""
    masters = {name: Counting(name, width=width) for name, width in (("aaaaaaaaaa", 2), ("bbbbbbbbbb", 3))}
    monkeypatch.setattr("models.train.Teacher", lambda folder: masters[folder.name])
    plan, folders = read_recipe(pupil_recipe(tmp_path, 0.5)), [Path(name) for name in masters]
    plan, both = _with_teachers(replace(plan, hint_weight=1.0), folders, tmp_path)
    assert (plan.hint_weight, [teacher.width for teacher in both]) == (1.0, [2, 3])
    found = [_fingerprint(plan, {}, None, teachers) for teachers in (both, both, both[::-1])]
    assert found[0] == found[1] != found[2]


def test_a_target_is_the_teachers_by_its_share(tmp_path: Path) -> None:
    """And all classes may then be said, also of a source that knows two; without a teacher those two alone."""
    plan = read_recipe(pupil_recipe(tmp_path, 0.75))
    encoded = EncodedCorpus.of([[1], [2]], [0, 2])
    taught = np.array([[0.2, 0.6, 0.2], [0.0, 0.2, 0.8]], np.float32)
    stage = plan.stages[0].__class__("one", 1, 0.01, {"uci": 2})
    plan = plan.__class__("", "", (), "subword", (stage,), label_smoothing=0.1, teacher_share=0.75)
    found: dict[bool, Tensor] = {}
    for is_taught in (False, True):
        corpus = EncodedCorpus(encoded.ids, encoded.labels, encoded.class_weights, taught if is_taught else None)
        batch = Mixture(plan, 0, {"uci": corpus}, {}).tensors([(0, 0), (0, 1)], 0, 0)
        found[is_taught] = batch.targets
        assert batch.allowed.tolist() == [[True, is_taught, True]] * 2
    assert found[False].tolist() == [pytest.approx([0.95, 0.0, 0.05]), pytest.approx([0.05, 0.0, 0.95])]
    own = found[False].numpy()
    assert np.abs(found[True].numpy() - (0.75 * taught + 0.25 * own)).max() < 1e-6


FEELING_IDS = {
    feeling: 100 + i for i, feeling in enumerate(sorted({f for fs in FEELINGS_OF_LABEL.values() for f in fs}))
}


def test_labels_of_untrusted_sources_count_without_a_teacher_alone(tmp_path: Path) -> None:
    """Such as emoticons, which know no neutral post; no source's labels count both alone and not at all."""
    path = tmp_path / "recipe.yaml"
    text = RECIPE.split("stages:")[0] + "emoji_share: 1.0\nteacher_share: 0.5\nuntrusted: [uci]\nstages:\n"
    stages = "  - {name: one, epochs: 1, learning_rate: 0.01, posts: {uci: 2, semeval: 2}}\n"
    path.write_text(text + stages)
    encoded = EncodedCorpus.of([[1], [2]], [0, 2])
    taught = np.array([[0.2, 0.6, 0.2], [0.0, 0.2, 0.8]], np.float32)
    for said in (taught, None):
        corpus = EncodedCorpus(encoded.ids, encoded.labels, encoded.class_weights, said)
        mixture = Mixture(read_recipe(path), 0, {"uci": corpus, "semeval": corpus}, {})
        targets = mixture.tensors([(0, 0), (1, 0)], 0, 0).targets.numpy()
        own = np.array([0.975, 0.0, 0.025])  # label_smoothing: 0.05
        expected = [own, own] if said is None else [taught[0], (taught[0] + own) / 2]
        assert np.allclose(targets, expected)
        batch = Mixture(read_recipe(path), 0, {"uci": corpus, "semeval": corpus}, FEELING_IDS).tensors(
            [(0, 0), (1, 0)], 0, 0
        )
        liked = {FEELING_IDS[feeling] for feeling in FEELINGS_OF_LABEL[0 if said is None else 1]}
        assert set(batch.ids[0, 1:].tolist()) <= liked, "emoji go with what is heard"
        assert set(batch.ids[1, 1:].tolist()) <= {FEELING_IDS[feeling] for feeling in FEELINGS_OF_LABEL[0]}
    path.write_text(text.replace("untrusted", "untaught: [uci]\nuntrusted") + stages)
    with pytest.raises(RecipeError, match="uci is both untaught and untrusted"):
        read_recipe(path)
    path.write_text(text.replace("[uci]", "[sanders]") + stages)
    with pytest.raises(RecipeError, match="untrusted names sanders"):
        read_recipe(path)


def test_the_network_is_one_that_the_trainer_knows(encoder: Path) -> None:
    """Dropout acts in training only."""
    network = pretrained(encoder, teacher_vocabulary(encoder), 3, 0.5)
    assert isinstance(network, SentenceClassifier)
    ids, lengths = torch.tensor([[4, 5, 6]]), torch.tensor([3])
    assert torch.equal(network.eval()(ids, lengths), network(ids, lengths))
    assert not torch.equal(network.train()(ids, lengths), network(ids, lengths))
