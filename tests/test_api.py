"""The public names: `docs/api.md` lists them, and they cost nothing before they are used."""

import re
import sys

import pytest
from commands import ROOT, run

import decodiff

PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["decodiff", "decodiff.cli"])
def test_an_import_loads_no_large_library(module):
    code = f"import sys, {module}, decodiff; dir(decodiff); print('loaded', *sys.modules)"
    output = run(ROOT, sys.executable, "-c", code, environment={})
    loaded = set(output.partition("loaded")[2].split())
    assert module in loaded and not loaded & {"torch", "diffusers", "skimage", "sklearn", "scipy", "matplotlib"}


def test_the_page_lists_the_public_names():
    listed = re.findall(r"^::: decodiff\.(\w+)$", PAGE, re.M)
    assert len(decodiff.__all__) > 20 and sorted(listed) == sorted(decodiff.__all__)


def test_public_names_are_those_of_their_modules():
    for name in decodiff.__all__:
        public = getattr(decodiff, name)
        assert not callable(public) or public.__module__.startswith("decodiff."), name
    assert decodiff.evaluate is sys.modules["decodiff.metrics"].evaluate
    with pytest.raises(AttributeError, match="fly"):
        _ = decodiff.fly


def test_the_example_runs(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    content = {}
    exec(compile(example, "docs/api.md", "exec"), content)
    assert content["values"]["pixel_auroc"] > 0.99 and "pixel_aupro" in capsys.readouterr().out
