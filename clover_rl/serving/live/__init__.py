"""Controllers compared live: one day after the other on one card, beside the simulator's prediction."""
