"""DeCo-Diff's benchmark: the method, its evaluation and the workflow around them."""

__version__ = "0.1.0"
