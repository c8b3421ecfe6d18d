"""What unlearned models are worth, and whether the server forgot: two entries of an arm in ``results.json``."""

from palimpsest.simulator.results.entry import ArmEntry, Number


class Utility(ArmEntry):
    """What the models are worth on test data, in the unit of ``metric``.

    Where requests are alternatives, figures are medians over them. In a chain they are of its ends: ``trained`` before
    the first request, ``unlearned`` and ``retrained`` after the last that was accepted. Runs of schema 1 have medians.
    The figures are None where there are no test records, those of the worst client where no client has enough records,
    those of retraining where nothing was retrained, and spreads (standard deviations) where there is but one retraining
    a request. F1 is of classes: ``f1_macro`` the mean over them, ``f1_positive`` of the second of two. ``r2`` is of
    scores against one-hot classes, where these are fitted by least squares (ridge); a regression's is its metric.
    """

    metric: str
    trained: Number | None = None
    unlearned: Number | None = None
    retrained: Number | None = None
    retrained_spread: Number | None = None
    worst_client_unlearned: Number | None = None
    worst_client_retrained: Number | None = None
    worst_client_retrained_spread: Number | None = None
    f1_macro_trained: Number | None = None
    f1_macro_unlearned: Number | None = None
    f1_macro_retrained: Number | None = None
    f1_macro_retrained_spread: Number | None = None
    f1_positive_trained: Number | None = None
    f1_positive_unlearned: Number | None = None
    f1_positive_retrained: Number | None = None
    f1_positive_retrained_spread: Number | None = None
    r2_trained: Number | None = None
    r2_unlearned: Number | None = None
    r2_retrained: Number | None = None
    r2_retrained_spread: Number | None = None

    @property
    def unit(self) -> str:
        """The metric as it is written for readers."""
        return {"r2": "R2"}.get(self.metric, self.metric)


class Forgetting(ArmEntry):
    """Whether the server forgot, pooled over requests; ``exact`` is always said, the rest where it was measured.

    Nothing is measured where no request was completed. ``kl`` needs probabilities, ``between`` and ``spread`` several
    retrainings, ``membership`` test records, ``backdoor`` a backdoor, ``relearning`` a training that can go on.
    """

    exact: bool
    exact_for_adaptive_requests: bool | None = None
    retrainings: int | None = None
    forget_loss: Number | None = None
    forget_loss_retrained: Number | None = None
    forget_loss_retrained_spread: Number | None = None
    forget_accuracy: Number | None = None
    distance_to_retrained: Number | None = None
    distance_between_retrained: Number | None = None
    kl_to_retrained: Number | None = None
    kl_between_retrained: Number | None = None
    membership_auc: Number | None = None
    membership_auc_retrained: Number | None = None
    membership_auc_retrained_spread: Number | None = None
    membership_valid: bool | None = None
    backdoor_success: Number | None = None
    backdoor_success_retrained: Number | None = None
    backdoor_success_retrained_spread: Number | None = None
    relearning_rounds: Number | None = None
    relearning_rounds_retrained: Number | None = None
    relearning_reached: Number | None = None
    relearning_reached_retrained: Number | None = None
