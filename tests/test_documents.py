"""What the documents tell one to type exists: commands and their options, configurations, targets of make, benchmarks."""

import itertools
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from decodiff.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "config/README.md"]
COMMANDS = typer.main.get_command(app).commands
# their further arguments are Snakemake's
FOR_SNAKEMAKE = ("plan", "piece", "run")


def blocks(page):
    """What stands in a page's blocks of shell."""
    return "".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)).replace("\\\n", " ")


def commands_of(shell):
    """Words of every command of this project's, or of what it is run by, in lines of shell."""
    waiting = ""
    for line in shell.splitlines():
        lexer = shlex.shlex(waiting + line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quote that a later line ends
            waiting += f"{line}\n"
            continue
        waiting = ""
        for is_between, part in itertools.groupby(words, lambda word: set(word) <= set("&|;")):
            command = list(itertools.dropwhile(re.compile(r"[A-Z_]+=.*").fullmatch, part))
            program = command[0].rpartition("/")[2] if command and not is_between else ""
            if program in ("decodiff", "snakemake", "make", "python"):
                yield [program, *command[1:]]
    assert not waiting, f"a quote that does not end: {waiting}"


def typed():
    """Words of every command in the pages: lines of shell blocks, and what stands in code within a sentence."""
    found = []
    for page in PAGES:
        within = re.findall(r"`((?:decodiff|make|python benchmarks)[^`\n]+)`", page.read_text(encoding="utf-8"))
        for words in commands_of("\n".join([blocks(page), *within])):
            found.append(pytest.param(words, id=f"{page.name}: {' '.join(words)[:70]}"))
    return found


@pytest.mark.parametrize("words", typed())
def test_it_can_be_typed(words):
    program, *rest = words
    options = [word.partition("=")[0] for word in rest if word.startswith("--")]
    if program == "decodiff" and rest and not rest[0].startswith(("-", "<")):
        command = COMMANDS[rest[0]]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert rest[0] in FOR_SNAKEMAKE or set(options) <= known, set(options) - known
    elif program == "make":
        lines = re.findall(r"^([\w./$() -]+):", (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv"), re.M)
        targets = [target for line in lines for target in line.split()]
        asked = [word for word in rest if "=" not in word and not word.startswith("-")]
        assert set(asked) <= set(targets), set(asked) - set(targets)
    elif program == "python" and rest and rest[0].startswith("benchmarks/"):
        code = (ROOT / rest[0]).read_text()
        assert all(f'"{option}"' in code for option in options), options
    configurations = [word for word in rest if re.fullmatch(r"config/\w+\.yaml", word)]
    assert all((ROOT / path).is_file() for path in configurations), configurations


def test_there_are_commands_to_look_at():
    programs = [parameter.values[0][0] for parameter in typed()]
    assert programs.count("decodiff") > 40 and programs.count("snakemake") > 10 and programs.count("make") > 10


def test_the_command_line_is_listed_as_its_help_has_it():
    command = [sys.executable, "-m", "typer", "decodiff.cli", "utils", "docs", "--name", "decodiff"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert made.strip() == (ROOT / "docs/commands.md").read_text(encoding="utf-8").strip(), "make commands"


NAMES = sorted({name for page in PAGES for name in re.findall(r"`(decodiff(?:\.\w+)+)", page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_package_exist(name):
    assert pkgutil.resolve_name(name) is not None
