"""The adversary alone: a directory in, answers out, and nothing of the rest of the project within reach."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import Average
from palimpsest.attacks.candidate_match import CandidateMatch
from palimpsest.attacks.class_score import ClassScore
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.max_difference import MaxDifference
from palimpsest.attacks.raw_difference import RawDifference
from palimpsest.attacks.session import attack_transcript
from palimpsest.simulator.results.answers import answer_names, load_answers, save_answers
from palimpsest.simulator.testing.transcripts import (
    ascending,
    challenged,
    cosines,
    diabetes,
    digits,
    forgetting,
    read_back,
    write,
)
from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.models.kinds import suits
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.specs import FeatureSpec
from tests.support.short import ATTACKS, LABEL_COUNTS

FORBIDDEN = ("flwr", "ray", "mlflow", "opacus")
ALONE = """
import json, os, sys, traceback
from importlib import import_module
from pathlib import Path

given = json.loads(sys.argv[1])
root, directory, truth = Path(given["root"]), Path(given["directory"]), Path(given["truth"])

ALLOWED = ("palimpsest.attacks", "palimpsest.simulator.world")

class Block:
    def find_spec(self, name, path=None, target=None):
        ours = name.startswith("palimpsest.") and name != "palimpsest.simulator"
        if name.partition(".")[0] in given["forbidden"] or ours and not name.startswith(ALLOWED):
            raise ImportError(f"the adversary asked for {name}")

wall = Block()
sys.meta_path.insert(0, wall)
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)

from palimpsest.attacks import CARDS, label_counts
from palimpsest.attacks.session import attack_transcript
from palimpsest.simulator.world.models.kinds import suits

assert set(given["label_counts"]) <= set(vars(label_counts))
vars(label_counts).update(given["label_counts"])
assert set(given["short"]) <= set(CARDS)
made = []
for kind, card in CARDS.items():
    module, _, name = card.target.partition(":")
    if suits(card, given["kind"]) and "messages" not in card.needs:
        made.append(getattr(import_module(module), name)(**given["short"].get(kind, {})))


def answer(place):
    before = len(opened)
    answers = attack_transcript(directory, made)
    heard = sum(path.startswith(str(directory)) for path in opened[before:])
    others = [path for path in opened if path.startswith(str(root)) and not path.startswith(str(directory))]
    sys.meta_path.remove(wall)
    from palimpsest.simulator.results.answers import save_answers

    save_answers(place, answers)
    place.with_suffix(".json").write_text(json.dumps([heard, others]))


for beside, place in zip(given["truths"], given["out"], strict=True):
    os.replace(beside, truth)
    child = os.fork()  # what an attack keeps in memory with one truth is not there with the other
    if child == 0:
        status = 1
        try:
            answer(Path(place))
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit("the adversary has failed")
"""


def overheard(directory: Path, kind: str = "ridge") -> PublicKnowledge:
    data = digits(private=150, public=120)
    spec = data.spec(kind, 4.0)
    deletions = [[0], [1], [2, 3, 4]]
    if kind == "mlp":
        knowledge, _ = challenged(data.knowledge(spec, "identity", 0.1), data, deletions)
        return write(directory, knowledge, ascending(data, spec, deletions, 0.1))
    knowledge, _ = challenged(data.knowledge(spec), data, deletions)
    return write(directory, knowledge, forgetting(data, spec, deletions))


def alone(root: Path, directory: Path, truth: Path, truths: Sequence[Path], kind: str) -> list[dict[str, Array]]:
    """Answers of processes that cannot import the rest of the project; they must have opened nothing else of the run.

    There is one for each of ``truths``, which lies in the place of the ground truth then.
    """
    out = [root / f"answers-{number}" for number in range(len(truths))]
    given = {
        "root": str(root),
        "directory": str(directory),
        "truth": str(truth),
        "truths": [str(beside) for beside in truths],
        "forbidden": FORBIDDEN,
        "out": [str(place) for place in out],
        "kind": kind,
        "short": ATTACKS,
        "label_counts": LABEL_COUNTS,
    }
    command = [sys.executable, "-c", ALONE, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for place in out:
        heard, others = json.loads(place.with_suffix(".json").read_text())
        assert heard > 0
        assert others == []
    return [load_file(place) for place in out]


@pytest.mark.parametrize("kind", ["ridge", "mlp"])
def test_the_adversary_runs_without_the_rest_and_never_looks_at_ground_truth(tmp_path: Path, kind: str) -> None:
    """Replacing ground truth beside the transcript changes no bit: nothing but the transcript's directory is opened."""
    directory = tmp_path / "run" / "transcripts" / "arm"
    overheard(directory, kind)
    truth = tmp_path / "run" / "truth" / "arm.safetensors"
    truth.parent.mkdir()
    truths = [tmp_path / f"truth-{number}" for number in range(2)]
    for number, beside in enumerate(truths):
        save_file({"x": np.full((5, 64), float(number)), "y": np.full(5, float(number))}, beside)
    outcomes = alone(tmp_path, directory, truth, truths, kind)
    able = [name for name, card in CARDS.items() if suits(card, kind) and "messages" not in card.needs]
    answered = {"reconstruction": "x", "labels": "evidence", "scores": "deleted", "profile": "counts"}
    assert {f"{name}/{answered[CARDS[name].promises]}" for name in able} <= set(outcomes[0])
    for name, value in outcomes[0].items():
        assert np.array_equal(value, outcomes[1][name], equal_nan=value.dtype.kind == "f")


def test_a_transcript_gives_what_the_models_themselves_give(tmp_path: Path) -> None:
    data = digits(private=150, public=120)
    spec = data.spec("softmax", 2.0)
    cases = ascending(data, spec, [[0], [1], [2]], step=0.1)
    knowledge = write(tmp_path, data.knowledge(spec, "identity", 0.1), cases)
    for case, read in zip(cases, read_back(tmp_path), strict=True):
        assert all(np.array_equal(case.after[name], read.after[name]) for name in case.after)
    for given in (None, knowledge):
        answers = attack_transcript(tmp_path, [Hrec(), Average()], given)
        assert list(answers) == ["hrec", "average"]
        assert answers["hrec"].cost.seconds > 0
        found = np.concatenate([one.x for one in answers["hrec"].guesses])
        assert cosines(found, data.x[:3]).min() > 0.999


def test_an_attacks_answer_does_not_depend_on_the_others(tmp_path: Path) -> None:
    overheard(tmp_path)
    together = attack_transcript(tmp_path, [MaxDifference(), RawDifference(), Hrec()])
    for one, other in zip(together["hrec"].guesses, attack_transcript(tmp_path, [Hrec()])["hrec"].guesses, strict=True):
        assert np.array_equal(one.x, other.x)


class _Entropy(Average):
    """Answers as the mean does, and says what its random numbers are derived from."""

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        sequence = rng.bit_generator.seed_seq
        assert isinstance(sequence, np.random.SeedSequence)
        words = np.frombuffer(int(str(sequence.entropy)).to_bytes(32, "big"), np.uint8).astype(np.float64)
        return [Reconstruction(case.index, np.tile(words, (case.size, 2)), np.zeros(case.size)) for case in cases]


def test_an_attacks_random_numbers_lead_to_what_everybody_holds(tmp_path: Path) -> None:
    """To the transcript's digest and the attack's name: whoever has the directory can derive them, and nothing else."""
    overheard(tmp_path)
    public = hashlib.sha256(f"{Transcript.open(tmp_path).digest()}|attack|average".encode()).digest()
    for answer in attack_transcript(tmp_path, [_Entropy()])["average"].guesses:
        assert isinstance(answer, Reconstruction)
        assert bytes(answer.x[0, :32].astype(np.uint8)) == public


def test_impossible_sessions_are_refused_with_a_reason(tmp_path: Path) -> None:
    data = digits(private=50, public=50)
    write(tmp_path / "mlp", data.knowledge(data.spec("mlp", 0.0)), ascending(data, data.spec("mlp", 0.0), [[0]], 0.1))
    with pytest.raises(ValueError, match="hrec does not work on mlp models: it works on ridge, softmax, svm"):
        attack_transcript(tmp_path / "mlp", [Hrec()])
    with pytest.raises(ValueError, match="at most one of each kind"):
        attack_transcript(tmp_path / "mlp", [Average(), Average()])
    with pytest.raises(ValueError, match="there is no challenge"):
        attack_transcript(tmp_path / "mlp", [CandidateMatch()])
    write(tmp_path / "table", diabetes().knowledge(diabetes().spec("ridge", 1.0)), [])
    with pytest.raises(ValueError, match="class-score tells classes, and this model has none"):
        attack_transcript(tmp_path / "table", [ClassScore()])
    with pytest.raises(TranscriptError, match="public knowledge"):
        attack_transcript(tmp_path / "nowhere", [Average()])


def test_a_transcript_without_deletions_has_no_answers(tmp_path: Path) -> None:
    data = digits(private=50, public=50)
    write(tmp_path, data.knowledge(data.spec("ridge", 1.0)), [])
    (tmp_path / "releases.jsonl").touch()
    assert attack_transcript(tmp_path, [Hrec(), Average()])["hrec"].guesses == []


def test_answers_of_every_kind_survive_the_disk(tmp_path: Path) -> None:
    overheard(tmp_path)
    answers = attack_transcript(tmp_path, [Hrec(), Average(), ClassScore(), CandidateMatch()])
    save_answers(tmp_path / "arm.safetensors", answers)
    arrays = load_file(tmp_path / "arm.safetensors")
    assert arrays["hrec/case"].tolist() == [0, 1, 2, 2, 2]
    loaded = load_answers(tmp_path / "arm.safetensors")
    assert set(loaded) == set(answers)
    for kind, answer in answers.items():
        assert len(answer.guesses) == 3
        for one, other in zip(answer.guesses, loaded[kind], strict=True):
            assert type(one) is type(other)
            for name, value in vars(one).items():
                assert np.array_equal(value, getattr(other, name)), name


def test_answers_from_before_kinds_had_names_are_read_by_their_fields(tmp_path: Path) -> None:
    overheard(tmp_path)
    answers = attack_transcript(tmp_path, [Hrec(), ClassScore(), CandidateMatch()])
    path = tmp_path / "arm.safetensors"
    save_answers(path, answers)
    named = answer_names(path)
    assert named == {kind: CARDS[kind].promises for kind in answers}
    save_file(load_file(path), path)  # without the metadata that names them
    assert answer_names(path) == named
    assert {kind: type(found[0]) for kind, found in load_answers(path).items()} == {
        kind: type(answer.guesses[0]) for kind, answer in answers.items()
    }


def test_the_same_answers_are_the_same_bytes(tmp_path: Path) -> None:
    overheard(tmp_path)
    answers = attack_transcript(tmp_path, [Hrec(), Average(), ClassScore(), CandidateMatch()])
    for name in ("one", "other"):
        save_answers(tmp_path / name, answers)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_feature_maps_seed_is_all_that_is_shared(tmp_path: Path) -> None:
    """Knowledge on disk is enough to rebuild the feature map."""
    data = digits(private=150, public=120)
    spec = data.spec("ridge", 4.0, FeatureSpec(dimension=256, bandwidth=3.0, seed=5))
    write(tmp_path, data.knowledge(spec, "identity", 0.1), ascending(data, spec, [[0], [1]], step=0.1))
    found = attack_transcript(tmp_path, [Hrec()])["hrec"].guesses
    assert cosines(np.concatenate([one.x for one in found]), data.x[:2]).min() > 0.999
