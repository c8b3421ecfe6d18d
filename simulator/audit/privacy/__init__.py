"""How much privacy worst-case canaries lose in trials of a defense's noise, beside what its account claims."""
