"""Code hashes: they follow what a module imports, and look past comments and docstrings."""

import ast
import shutil

import pytest

from decodiff import fingerprint

TRAIN = "decodiff.stages.train"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to change; hashes are taken of it."""
    shutil.copytree(fingerprint.PACKAGE, tmp_path / "decodiff", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "decodiff")
    yield tmp_path / "decodiff"
    fingerprint._parsed.cache_clear()
    fingerprint.code_hash.cache_clear()


def changes(package, file, old, new, *arguments, **more):
    """Whether a replacement in a file changes the hash."""
    hashes = []
    for path in (None, package / file):
        if path:
            content = path.read_text()
            assert old in content
            path.write_text(content.replace(old, new, 1))
        fingerprint._parsed.cache_clear()
        fingerprint.code_hash.cache_clear()
        hashes.append(fingerprint.code_hash(*arguments, **more))
    return hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/train.py", "import logging", "import logging\nimport os"),
        ("scheduler.py", "0.008", "0.009"),
        ("training/loop.py", "FILES_NAMED = 4", "FILES_NAMED = 5"),
    ],
)
def test_the_code_of_a_stage_and_of_all_it_imports_counts(package, file, old, new):
    assert changes(package, file, old, new, TRAIN)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scheduler.py", '"""', '"""Another docstring. '),
        ("scheduler.py", "import torch", "# why\nimport torch"),
        ("__init__.py", "import lazy_loader", "import lazy_loader, os"),
        ("metrics.py", "MAX_FPR = 0.3", "MAX_FPR = 0.2"),
        ("reporting/figures.py", "import", "import os\nimport"),
        ("data/registry.py", "CC BY 4.0", "other"),
    ],
)
def test_comments_docstrings_declarations_and_later_stages_do_not_count(package, file, old, new):
    assert not changes(package, file, old, new, TRAIN)


def test_the_package_takes_nothing_from_its_public_names():
    """What is imported from `decodiff` itself is no import of a module, and a hash would not know of it."""
    for path in fingerprint.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "decodiff":
                assert all(fingerprint._file(f"decodiff.{name.name}") for name in node.names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "decodiff":
                assert node.attr in ("__file__", "__version__"), path


def test_modules_apart_do_not_count_and_files_do(package):
    assert not changes(package, "correction.py", "import torch", "import os, torch", TRAIN, apart=("decodiff.correction",))
    assert changes(package, "correction.py", "import os, torch", "import torch", TRAIN)
    table, published = "decodiff.reporting.main_tables", ("reporting/published",)
    assert changes(package, "reporting/published/deco_diff.csv", "99.3", "99.4", table, files=published)


def test_an_unknown_module_is_an_error(package):
    with pytest.raises(FileNotFoundError, match="decodiff.stages.fly"):
        fingerprint.code_hash("decodiff.stages.fly")
