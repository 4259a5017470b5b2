"""Loss, optimisers, and the steps of a run."""
