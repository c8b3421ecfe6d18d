"""Cards: what a method, data set or model is and needs, as literals, so that listing them imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One line of a table of methods; a test holds it equal to what the class itself declares.

    Attributes:
        target: where the class lives, ``"package.module:Class"``.
        summary: one sentence for ``palimpsest list``.
        levels: deletion levels it supports (record, label, client); empty where that means nothing.
        models: the only models it works on, by name; empty means all.
        traits: what a model must be or have for it, see ``ModelCard.traits``.
        algorithms: training algorithms it works with; empty means all.
        needs: what it needs from the federation or the adversary's knowledge.
        promises: ``exact``, ``certified`` or ``none``; for attacks, the kind of answer.
        source: the paper.
        under: of an unlearning method: places at which a private defense's noise covers all that it reads.
        places: of a defense: where it acts.
        unit, pays_at: of a private defense: what it protects, and the place where its noise enters.
    """

    target: str
    summary: str
    levels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    promises: str = "none"
    source: str = ""
    under: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    unit: str = ""
    pays_at: str = ""
