"""What every reinforcement learner of text needs: masks, distances from a reference, completions, a policy."""
