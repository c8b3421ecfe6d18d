"""What private defenses and the account of a scenario rule out."""

from collections.abc import Sequence

from palimpsest.simulator.scenario.entries import Entry, applies, members
from palimpsest.simulator.scenario.errors import ScenarioError, listed
from palimpsest.simulator.scenario.registry import Group, card, names
from palimpsest.simulator.scenario.sections import PrivacyConfig, Setting


def at(setting: Setting) -> str:
    return f" (variant {setting.variant!r})" if setting.variant else ""


def check_privacy(privacy: PrivacyConfig, defense: Sequence[Entry]) -> None:
    """Refuse what is said about an account where no defense keeps one.

    Raises:
        ScenarioError: names the key.
    """
    if any(card("defense", entry["kind"]).pays_at for _, entry in placed("defense", defense)):
        return
    said = {
        f"budget = {privacy.budget:g}": privacy.budget > 0.0,
        "sampling_is_secret = true": privacy.sampling_is_secret,
        "secure_noise = true": privacy.secure_noise,
    }
    if (problem := next((what for what, holds in said.items() if holds), None)) is not None:
        private = [name for name in names("defense") if card("defense", name).pays_at]
        raise ScenarioError(
            f"privacy.{problem} with no defense that spends privacy: add a [[defense]] with kind = one of "
            f"{listed(private)}, or leave it out"
        )


def check_randomness(privacy: PrivacyConfig, unlearning: Sequence[Entry]) -> None:
    """Refuse retrainings that draw again what only a seed brings back.

    Raises:
        ScenarioError: names the key.
    """
    for position, entry in enumerate(unlearning):
        if privacy.secure_noise and entry.get("coupling") in ("same-coins", "same-noise"):
            raise ScenarioError(
                f"unlearning.{position}.coupling = {entry['coupling']!r} with privacy.secure_noise = true: noise of "
                f"the operating system cannot be drawn again; take secure_noise = false, or coupling = 'same-order'"
            )


def placed(group: Group, entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """Entries with their paths, and those inside of a stack after it."""
    placed_entries = []
    for i, entry in enumerate(entries):
        placed_entries += [
            (f"{group}.{i}", entry),
            *((f"{group}.{i}.of.{j}", part) for j, part in enumerate(members(entry))),
        ]
    return placed_entries


def check_private(path: str, defense: Entry, unlearning: Sequence[Entry], settings: Sequence[Setting]) -> None:
    """Refuse unlearning methods that would read data outside of what a private defense noises and charges."""
    about = card("defense", defense["kind"])
    if not about.pays_at:
        return
    for position, entry in enumerate(unlearning):
        together = [s for s in settings if applies(entry, s.variant) and applies(defense, s.variant)]
        if together and about.pays_at not in card("unlearning", entry["method"]).under:
            able = [name for name in names("unlearning") if about.pays_at in card("unlearning", name).under]
            raise ScenarioError(
                f"unlearning.{position}.method = {entry['method']!r} with {path}.kind = {defense['kind']!r}"
                f"{at(together[0])}: it reads data that the defense neither noises nor charges; take {listed(able)}"
            )
