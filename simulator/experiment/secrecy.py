"""A run that was begun under a secret goes on under the same one."""

from typing import Any

from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.scenario.secret import VARIABLE, fingerprint, is_of


def remembered(scenario: Scenario) -> dict[str, Any]:
    """What a run's provenance keeps of its secret: a salted digest of one that can be given again; empty: nothing."""
    if scenario.privacy.secret != "given":
        return {}
    return {"secret": fingerprint(scenario.secret())}


def check_kept(directory: RunDirectory) -> None:
    """Refuse to go on with a run whose secret was drawn and is gone.

    Raises:
        ScenarioError: says what to do in place of it.
    """
    if directory.scenario().get("privacy", {}).get("secret") == "random":
        raise ScenarioError(
            f"{directory.path} was run under a random secret, which is kept nowhere, so that nobody can go on with it: "
            f"run it anew, with privacy.secret = 'given' and a secret of your own in {VARIABLE} where it must be "
            f"possible to go on"
        )


def check_same(directory: RunDirectory, scenario: Scenario) -> None:
    """Refuse another secret than the run's own.

    Raises:
        ScenarioError: the secret differs, or the directory does not say.
    """
    if scenario.privacy.secret != "given":
        return
    known = (directory.provenance() or {}).get("secret")
    if known is None:
        raise ScenarioError(f"{directory.path} does not say under which secret it was run: run it anew")
    if not is_of(scenario.secret(), known):
        raise ScenarioError(
            f"{directory.path} was run under another secret than the one in {VARIABLE}: give the one that it was begun "
            f"with"
        )
