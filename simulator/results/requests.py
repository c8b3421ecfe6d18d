"""A row for each request: who asked for what, what was done, and what it cost and gave away.

The same rows are ``requests`` of an arm in ``results.json``, and ``requests/<arm>.parquet`` as a table.
"""

from pydantic import Field

from palimpsest.simulator.results.entry import ArmEntry, Number
from palimpsest.simulator.world.records import Level


class AttackOnRequest(ArmEntry):
    """What one attack got out of one request.

    Attributes:
        answers: kind of its answers: ``reconstruction``, ``labels``, ``scores``, ``profile``, or another package's.
        inferred: what it says was deleted, in words, such as ``12 benign, 8 malignant``; empty where it has no words.
        measure: what ``success`` is: ``centred cosine`` (median over the request's records), ``share of classes``
            (deleted records whose class was named), ``AUC`` (share of held-out records that it takes for less likely
            deleted), ``label histogram`` (1 less the total variation); empty where the kind's package says none.
        success: at most 1; None where the kind's package says none, or where it is withheld.
        chance: what an answer that saw no model has; None where that is not known.
        no_signal: whether the released model did not change, so that there was nothing to read.
    """

    answers: str
    inferred: str = ""
    measure: str = ""
    success: Number | None = None
    chance: Number | None = None
    no_signal: bool = False


class RequestResult(ArmEntry):
    """One request of an arm. What does not apply, or was not measured, is None.

    Attributes:
        number: from 1, in the scenario's order; in the ledger, events and ``forgetting/`` requests count from 0.
        case: of ``scores/``, ``truth/`` and ``reconstructions/``; None where the request was refused.
        round: of training after which it arrived.
        rejoined: round of training after which its client took part again; None: never.
        level: ``record``, ``label`` or ``client``.
        client: id of who asked; None where several did.
        clients: how many asked.
        name: of who asked: the site's name, or ``client 3`` where it has none; the first three of several.
        records: how many were to be deleted.
        accepted: whether it was done.
        reason: why it was refused; empty where it was not.
        utility_before: of the model that was unlearned from, on the test records.
        utility_after: of the model that it ended in, as released.
        utility_retrained: of a retraining that nobody sees, the mean over several.
        forgetting_gap: how far membership of the deleted records shows more (or less) than after a retraining: the
            absolute difference of the two AUC.
        forgetting: all that was measured of the released model and the forgotten records, by the measure's name;
            ``<measure>_retrained`` is a retraining's, the mean over several, and ``<distance>_to_retrained`` is to it.
        attacks: by the attack's kind; empty where the request was refused.
        epsilon_leaver: highest epsilon of a deleted unit once the request is done.
        epsilon_retained: highest epsilon of a unit that stays, by then; None where nobody stays.
        epsilon_retained_before: the same before this request was unlearned: what it rose by, they paid for it.
        seconds: that the server took, broadcasting left out. This and the costs below are None where requests that
            are alternatives were unlearned together.
        client_updates: local trainings and full-batch answers of single clients.
        bytes_up, bytes_down: what those clients would send and receive.
        clients_left: clients that hold a record once the request is done.
        records_left: records that are left; 0: the released model stands for nobody's data.
    """

    number: int
    case: int | None
    round: int
    rejoined: int | None = None
    level: Level
    client: int | None
    clients: int
    name: str
    records: int
    accepted: bool
    reason: str = ""
    utility_before: Number | None = None
    utility_after: Number | None = None
    utility_retrained: Number | None = None
    forgetting_gap: Number | None = None
    forgetting: dict[str, Number | None] = Field(default_factory=dict)
    attacks: dict[str, AttackOnRequest] = Field(default_factory=dict)
    epsilon_leaver: Number | None = None
    epsilon_retained: Number | None = None
    epsilon_retained_before: Number | None = None
    seconds: Number | None = None
    client_updates: int | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    clients_left: int | None = None
    records_left: int | None = None
