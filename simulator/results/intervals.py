"""Which intervals there are, and how wide those of shares are; imports nothing heavy."""

FEWEST = 6
"""Below so many draws no interval for a median holds 95 % (smallest to largest of n covers 1 - 2^(1 - n))."""


def share_interval(share: float, trials: float, error: float = 0.05) -> tuple[float, float]:
    """Clopper-Pearson interval of a share; it misses the truth with probability ``error`` at most.

    Args:
        share: of the trials that succeeded, in [0, 1]. A mean of fractions is taken for so many successes: fractions
            vary less than successes and failures of the same mean do.
        trials: independent ones, at least 1.
        error: in (0, 1).

    Example:
        >>> low, high = share_interval(0.5, trials=10)
        >>> f"{low:.3f} to {high:.3f}"
        '0.187 to 0.813'
    """
    from scipy.special import betaincinv  # takes a while to import, and not every reader needs it

    successes = share * trials
    low = betaincinv(successes, trials - successes + 1.0, error / 2.0) if successes > 0.0 else 0.0
    high = betaincinv(successes + 1.0, trials - successes, 1.0 - error / 2.0) if successes < trials else 1.0
    return float(low), float(high)
