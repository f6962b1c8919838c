"""DeCo-Diff's benchmark: the method, its evaluation and the workflow around them.

The names that `__init__.pyi` lists can be imported from here; `docs/api.md` says what they are. The module of each is imported
when the name is first used, so this import alone loads no large library. The package itself imports from its modules, never
from here: `decodiff.fingerprint` follows those imports.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
