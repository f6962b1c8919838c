"""The embedded data set: the same bytes each time, exact masks, twins, and the layout it promises."""

import hashlib

import numpy as np
import pytest

from decodiff.data.demo import CATEGORIES, DATA_SETS, DEFECTS, folders, render
from decodiff.stages.fetch import write_demo


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_what_its_mask_covers_and_nothing_else(category, defect):
    for index in range(10):
        sample = render(category, "test", defect, index)
        changed = (sample.image != sample.twin).any(axis=-1)
        assert sample.mask.any(), f"{category} {defect} {index} shows nothing"
        assert not (changed & ~sample.mask).any()
        assert changed[sample.mask].mean() > 0.5


@pytest.mark.parametrize("category", CATEGORIES)
def test_good_images_have_no_defect_and_differ_from_one_another(category):
    images = [render(category, "train", "good", index) for index in range(4)]
    assert not any(sample.mask.any() for sample in images)
    assert all(np.array_equal(sample.image, sample.twin) for sample in images)
    assert len({sample.image.tobytes() for sample in images}) == 4


def test_another_seed_draws_other_images():
    assert not np.array_equal(render("ring", "test", "blob", 0, seed=0).image, render("ring", "test", "blob", 0, seed=1).image)


@pytest.mark.parametrize("name", ["demo", "demo_parts"])
def test_written_twice_it_is_the_same_to_the_byte_and_in_mvtecs_layout(tmp_path, name):
    def digest(root):
        files = sorted(path for path in root.rglob("*") if path.is_file())
        content = hashlib.sha256()
        for path in files:
            content.update(str(path.relative_to(root)).encode() + path.read_bytes())
        return len(files), content.hexdigest()

    write_demo(name, tmp_path / "one")
    write_demo(name, tmp_path / "two")
    count, first = digest(tmp_path / "one")
    assert (count, first) == digest(tmp_path / "two")
    images = sum(number for *_, number in folders(name))
    masks = sum(number for _, _, defect, number in folders(name) if defect != "good")
    assert count == images + masks
    for category in DATA_SETS[name].categories:
        assert (tmp_path / "one" / category / "train" / "good" / "000.webp").is_file()
        for defect in DEFECTS:
            assert (tmp_path / "one" / category / "test" / defect / "000.webp").is_file()
            assert (tmp_path / "one" / category / "ground_truth" / defect / "000_mask.png").is_file()
