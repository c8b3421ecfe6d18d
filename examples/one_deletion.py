"""One deletion by hand: what ``palimpsest run`` does for each of its arms, from the data to the score."""

from pathlib import Path
from tempfile import TemporaryDirectory

from palimpsest.attacks.average import Average
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.session import attack_transcript
from palimpsest.server.history import History
from palimpsest.server.setup import Setup, TrainingPlan
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.reconstruction import score_attack
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.world.data.build import DataConfig, build_population
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts, PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelSpec, Recipe


def main(place: Path) -> None:
    """Train, delete one record, unlearn, attack, score; all files go to ``place``, an empty folder."""
    # The data: records of 20 clients, and a public sample and test records that no client has.
    data = DataConfig(source="digits", clients=20)
    people = build_population(data, seed=0)
    form, transcript = people.schema, TranscriptWriter(place / "transcript")
    # The training: softmax regression by federated averaging, on two hosts that are in this process.
    hosts = {"data": data.model_dump(mode="json"), "directory": str(people.save(place / "population"))}
    clients = GridFederation(SerialGrid(2), hosts, people.sizes, seed=0, arm="example")
    model = ModelSpec(kind="softmax", task=form.task, shape=form.shape, outputs=form.outputs, regularisation=10.0)
    recipe = Recipe(batch_size=10, learning_rate=0.1, l2=0.01, local_epochs=2)
    plan = TrainingPlan(algorithm="fedavg", rounds=10, clients_per_round=5, recipe=recipe)
    history = History.of(Setup(model, plan, people.sizes), clients)
    before = [transcript.append(release) for release in history.train()][-1]
    # Client 3 has its first record deleted, and the server retrains: whatever it broadcasts joins the transcript.
    request = DeletionRequest(index=0, round=10, level="record", forget={3: (0,)})
    case = UnlearningCase(1, request, request.forget, request.round, before=history.record.released(10))
    method = Retrain(coupling="same-order")
    after = [transcript.append(o.release, parent=before) for o in method.unlearn(history, [case], clients)][-1]
    clients.tombstone({case.branch: request.forget})
    # Public knowledge lies beside the transcript; an attack gets this folder, and nothing else.
    about = {"scenario": "one deletion", "schema_": form, "model": model, "n": people.records, "preprocessing": {}}
    rules = {"algorithm": "fedavg", "training": recipe.model_dump(), "unlearning": method.model_dump()}
    facts = Facts(**about, **rules, operator="hessian", step=1.0, cases=(CaseView(before=before, after=after, size=1),))
    public = PublicKnowledge(facts, people.public_x.astype(float), people.public_y, people.box_low, people.box_high)
    public.save(transcript.directory)
    # The score: the first place where the deleted record and what an attack says of it meet.
    truth = Truth(0, *people.take(people.rows(3, (0,))))
    for name, answer in attack_transcript(transcript.directory, [Hrec(), Average()]).items():
        score = score_attack([truth], answer.guesses, public, form, people.test_x, generator(0, "candidates")).iloc[0]
        print(f"{name}: centred cosine {score['cosine_centred']:.2f}, label right: {bool(score['label_correct'])}")


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        main(Path(scratch))
