"""Training a network on a scope: its data, its loop, its log."""
