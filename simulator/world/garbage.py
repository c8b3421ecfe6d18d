"""Importing this makes Python look less often for garbage in cycles; a process of the project's own does so first.

Loading libraries leaves next to none: with Python's thresholds (700, 10, 10) it was looked for 770 times while what a
run needs was loaded, a fifth of that time. Ten thousand new objects in place of 700 make some fifty looks of these.
"""

import gc

gc.set_threshold(10_000, 20, 5)
