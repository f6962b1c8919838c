"""The public names: what `docs/api.md` lists is there, and costs nothing before it is used."""

import inspect
import re
import sys

import pytest
from commands import ROOT, run

import decodiff

PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
# name and, of what is called, its parameters
LISTED = dict(re.findall(r"^\| `(\w+)(?:\((.*?)\))?[^|]*\|", PAGE, re.M))


@pytest.mark.parametrize("module", ["decodiff", "decodiff.cli"])
def test_an_import_loads_no_large_library(module):
    code = f"import sys, {module}, decodiff; dir(decodiff); print('loaded', *sys.modules)"
    output = run(ROOT, sys.executable, "-c", code, environment={})
    loaded = set(output.partition("loaded")[2].split())
    assert module in loaded and not loaded & {"torch", "diffusers", "skimage", "sklearn", "scipy", "matplotlib"}


def test_the_page_lists_the_public_names_and_their_parameters():
    assert len(decodiff.__all__) > 20 and sorted(LISTED) == sorted(decodiff.__all__)
    for name, parameters in LISTED.items():
        named = [parameter for parameter in re.split(r",\s*", parameters) if parameter not in ("", "*", "…")]
        if named:
            there = list(inspect.signature(getattr(decodiff, name)).parameters)
            assert named == there[: len(named)], name


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
