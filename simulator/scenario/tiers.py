"""What an adversary that is the server rules out, and what must be seen for what."""

from collections.abc import Sequence

from palimpsest.simulator.scenario.adversary import SERVER_TIERS, AdversaryConfig
from palimpsest.simulator.scenario.entries import Entry, applies
from palimpsest.simulator.scenario.errors import ScenarioError, listed
from palimpsest.simulator.scenario.private_methods import at, placed
from palimpsest.simulator.scenario.registry import Group, card
from palimpsest.simulator.scenario.sections import PrivacyConfig, Setting

HEARD = {"updates": ("updates",), "messages": ("updates", "aggregate")}
"""Need of an attack -> the values of ``adversary.sees`` that meet it."""
_SINGLE_MESSAGES = {
    "leaver": "a message of the leaver alone",
    "client drift": "the lengths of single clients' updates",
    "client updates": "the updates of single clients",
    "single-client messages": "messages of single clients",
}
_ALGORITHMS = ("fedavg", "fedsgd")


def check_tier(setting: Setting, secure: bool) -> None:
    """Refuse what a server cannot be said to see, or not to.

    Args:
        setting: of one variant.
        secure: whether secure aggregation is declared.

    Raises:
        ScenarioError: names the keys, and what would do.
    """
    adversary = setting.adversary
    if adversary.sees not in SERVER_TIERS:
        return
    given = f"adversary.sees = {adversary.sees!r}"
    if secure and adversary.sees == "updates":
        raise ScenarioError(
            f"{given} with federation.secure_aggregation = true{at(setting)}: the server then sees sums of cohorts "
            f"only; take sees = 'aggregate', or secure_aggregation = false"
        )
    if setting.training.algorithm not in _ALGORITHMS:
        raise ScenarioError(
            f"{given} with training.algorithm = {setting.training.algorithm!r}{at(setting)}: messages are kept of "
            f"rounds, and it has none; take {listed(_ALGORITHMS)}, or sees = 'releases'"
        )
    wrong = {
        "deletion.pattern = 'sequential'": setting.deletion.pattern == "sequential",
        "adversary.knows_bracket = false": not adversary.knows_bracket,
        f"adversary.missed_rounds = {adversary.missed_rounds}": adversary.missed_rounds > 0,
    }
    if (problem := next((what for what, holds in wrong.items() if holds), None)) is not None:
        raise ScenarioError(
            f"{given} with {problem}{at(setting)}: a server knows when it unlearns and misses nothing, and of a chain "
            f"messages are not told apart by deletion; take pattern = 'independent', knows_bracket = true and "
            f"missed_rounds = 0"
        )


def check_secrecy(settings: Sequence[Setting], privacy: PrivacyConfig, defense: Sequence[Entry]) -> None:
    """Refuse privacy that rests on the server being honest where it is the adversary.

    Raises:
        ScenarioError: names the keys, and what would do.
    """
    for setting in settings:
        if privacy.secret and "seeds" in setting.adversary.knows:
            raise ScenarioError(
                f"privacy.secret with 'seeds' in adversary.knows{at(setting)}: a secret that the adversary is told is "
                f"none; remove one of them"
            )
        sees = setting.adversary.sees
        if sees not in SERVER_TIERS:
            continue
        given = f"adversary.sees = {sees!r}"
        if privacy.sampling_is_secret:
            raise ScenarioError(
                f"{given} with privacy.sampling_is_secret = true{at(setting)}: this server knows who took part; take "
                f"sampling_is_secret = false, or sees = 'releases'"
            )
        for path, entry in placed("defense", defense):
            if applies(entry, setting.variant) and card("defense", entry["kind"]).pays_at == "aggregation":
                raise ScenarioError(
                    f"{given} with {path}.kind = {entry['kind']!r}{at(setting)}: the server adds that noise itself, "
                    f"and promises nothing against its own curiosity; take dp-sgd, whose noise clients add, or "
                    f"sees = 'releases'"
                )


def check_heard(shown: str, needs: Sequence[str], adversary: AdversaryConfig) -> None:
    """Refuse attacks that read messages which the adversary does not hear.

    Raises:
        ScenarioError: names the attack, and what would do.
    """
    for need in needs:
        if need in HEARD and adversary.sees not in HEARD[need]:
            raise ScenarioError(
                f"{shown} with adversary.sees = {adversary.sees!r}: it reads what clients send to the server; take "
                f"sees = {listed([repr(tier) for tier in HEARD[need]])}, or inversion, which reads releases"
            )


def check_single(group: Group, shown: str, needs: Sequence[str], setting: Setting, secure: bool) -> None:
    """Refuse methods that need a single client's message where only sums arrive, or noise that the adversary draws.

    Raises:
        ScenarioError: names the method and the key.
    """
    sees = setting.adversary.sees
    for need in needs:
        if need in _SINGLE_MESSAGES and (secure or sees == "aggregate"):
            key = "federation.secure_aggregation = true" if secure else "adversary.sees = 'aggregate'"
            remedy = "secure_aggregation = false" if secure else "sees = 'updates', or restrict it by `only`"
            raise ScenarioError(
                f"{shown} with {key}{at(setting)}: it needs {_SINGLE_MESSAGES[need]}, which the server then never "
                f"sees; take retrain, or {remedy}"
            )
        if group == "unlearning" and need == "secret noise" and sees in SERVER_TIERS:
            raise ScenarioError(
                f"{shown} with adversary.sees = {sees!r}{at(setting)}: what it certifies rests on noise that the "
                f"server draws; take sees = 'releases', or a method that certifies nothing"
            )
