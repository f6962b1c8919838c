"""What the rules of the workflow share: where the files of a run lie, and when a run must not start."""
