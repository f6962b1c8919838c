"""What tests of several files use."""

import time

import pytest
from commands import ROOT, finish, start


@pytest.fixture(scope="session")
def whole_demo(tmp_path_factory):
    """Configuration of the demo, a folder in which it has run without disturbance, and the seconds that took."""
    config, directory = ROOT / "config/demo.yaml", tmp_path_factory.mktemp("demo")
    begin = time.monotonic()
    finish(start(directory, config), minutes=40)
    return config, directory, time.monotonic() - begin


def pytest_collection_modifyitems(items):
    # the longest files first, so that no worker is left alone with one at the end
    items.sort(key=lambda item: item.path.stem not in ("test_workflow", "test_other_runs"))
