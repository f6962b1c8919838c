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
