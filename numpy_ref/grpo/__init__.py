"""Group-relative policy optimisation: other answers to the same prompt say what was to be expected."""
