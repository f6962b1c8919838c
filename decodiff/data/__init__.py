"""Data sets: where they come from, how they are laid out, what they hold, and how they reach the networks."""
