"""Speed against plain Flower and plain loops on the same work, in one run."""
