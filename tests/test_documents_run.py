"""What the documents' blocks of shell tell one to type ends well: in a copy of the project in which the demo has run."""

import csv
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from test_documents import PAGES, ROOT, blocks, commands_of
from test_dvc import copy_of_the_project, git, run

pytestmark = pytest.mark.demo

# Left out, and why; each is a pattern of the whole command.
LEFT = {
    r"make .*": "CI calls make itself, and these tests run after `make demo`",
    r"python -m pytest .*": "CI runs the tests",
    r"snakemake --workflow-profile profiles/slurm .*": "needs a cluster; tests/test_slurm.py brings one",
    r"decodiff piece .*": "needs a GPU and hours; tests/test_pieces.py does it at toy size",
    r"decodiff fetch (?!demo).*": "downloads",
    r"decodiff app .*": "a page that stays open; tests/test_app.py opens it",
    r".*….*": "holds what is to be filled in",
}
# Hours, downloads or a GPU: Snakemake plans them (-n) and runs nothing.
PLANNED = (
    r"snakemake",
    r"snakemake --directory \S+",
    r"snakemake (--workflow-profile profiles/cpu )?--configfile config/(?!demo)\S+( --config .*)?",
    r"snakemake .*--forcerun .*",
    r"snakemake .*config/peers.yaml",
)
# Runs that the documents take for finished: the demo, of which one model is named.
STAND_INS = {r"publish (?!demo)\w+ ": "publish demo --scope all "}
# of a command that needs more than what every user installs
EXTRAS = {r"decodiff export .*--format onnx.*": "onnxscript", r"decodiff export .*--format openvino.*": "openvino"}
SIDE = 64


def documented():
    """Every command of the pages' blocks, in their order."""
    return [
        pytest.param(page.name, words, id=f"{page.name}: {' '.join(words)[:70]}")
        for page in PAGES
        for words in commands_of(blocks(page))
    ]


def fits(patterns, command):
    return next((pattern for pattern in patterns if re.fullmatch(pattern, command, re.S)), None)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project and its demo, with images, maps and results where the documents suppose some."""
    folder = tmp_path_factory.mktemp("project")
    copy_of_the_project(folder)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as it stands")
    for name in ("data", "models", "logs", "results/demo", ".snakemake/metadata"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
    # a pulled demo comes without its data
    run(folder, "snakemake", "prepared", "--configfile", "config/demo.yaml")
    prepared = folder / f"data/demo/prepared-{SIDE}"
    pictures = sorted((folder / "data/demo/images/weave/train/good").iterdir())
    for place, count in (("path/to/images", 40), ("path/to/new/images", 3), ("photos", 3)):
        (folder / place).mkdir(parents=True)
        for picture in pictures[:count]:
            shutil.copy(picture, folder / place)
    (folder / "data/mvtec_ad").mkdir()
    (folder / "data/mvtec_ad/prepared-288").symlink_to(prepared)
    masks = np.load(prepared / "test_masks_standard.npy")
    random = np.random.default_rng(0)
    with open(prepared / "test.csv", newline="") as stream:
        rows = [(position, row) for position, row in enumerate(csv.DictReader(stream)) if row["split"] == "test"]
    for position, row in rows:
        name = f"{row['category']}/{row['defect']}/{row['image'].rpartition('/')[2].rpartition('.')[0]}"
        for place in ("maps", "other", "masks"):
            (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(masks[position] * 255).save(folder / f"masks/{name}.png")
        for place in ("maps", "other"):
            np.save(folder / f"{place}/{name}.npy", random.random((SIDE, SIDE), dtype=np.float32))
    identity = ["--dataset", "mvtec_ad", "--scope", "mvtec_ad", "--output", "results/paper/mvtec_ad/seed-0/mvtec_ad"]
    run(folder, "decodiff", "evaluate", "--maps", "other", "--masks", "data/mvtec_ad/prepared-288", *identity)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "what the documents suppose")
    return folder


@pytest.fixture(scope="module")
def pages():
    """Pages that have been read so far."""
    return []


@pytest.fixture
def page(project, pages, request):
    """The project as a reader of one page has it, without what other pages had made beside the demo."""
    if pages[-1:] != [request.param]:
        git(project, "reset", "--quiet", "--hard")
        git(project, "clean", "--quiet", "-d", "--force")
        pages.append(request.param)
    return request.param


@pytest.mark.parametrize(("page", "words"), documented(), indirect=["page"])
def test_it_ends_well(page, words, project):
    command = " ".join(words)
    if fits(LEFT, command):
        pytest.skip(LEFT[fits(LEFT, command)])
    if needed := fits(EXTRAS, command):
        pytest.importorskip(EXTRAS[needed])
    for pattern, stand_in in STAND_INS.items():
        if re.search(pattern, command):
            words = re.sub(pattern, stand_in, command).split()
    program = [sys.executable, *words[1:]] if words[0] == "python" else words
    # targets and options come before what takes all words that follow
    said = run(project, program[0], *(["-n"] if fits(PLANNED, command) else []), *program[1:])
    assert "Traceback" not in said
