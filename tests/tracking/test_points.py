"""What is plotted against a step."""

from palimpsest.simulator.tracking.points import of_event
from palimpsest.simulator.world.protocols.events import RoundDone


def test_a_chains_server_leaves_the_shared_training_so_that_no_step_of_its_life_is_told_twice() -> None:
    shared = RoundDone("seed 0", "", 0, 9, "training", 1.0, utility=0.5, step=9)
    own = RoundDone("seed 0", "retrain--none--seed0", 1, 9, "unlearning", 1.0, utility=0.4, step=9, request=0)
    assert [(point.key, point.step) for point in of_event(shared, 0)] == [("training/utility", 9)]
    assert list(of_event(own, 0)) == []
