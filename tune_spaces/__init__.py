"""Search spaces: one file, one space. ``space.load_space`` opens them."""

SPACES = ("loss_weights", "temperatures", "optimisation", "joint")
