"""Names of variants: the same where they share, different where they do not, and fit for a folder."""

from decodiff.variants import Variant, combinations, sweep_variants


def test_a_name_tells_what_changes_at_its_level_and_nothing_else():
    variant = Variant("x", {"correction.steps": 4, "scoring.fusion": "pixel", "masking.max_ratio": 0.3})
    assert variant.names == {"model": "max_ratio=0.3", "correction": "steps=4", "scoring": "fusion=pixel"}
    assert Variant("run", {}).names == {"model": "base", "correction": "base", "scoring": "base"}


def test_the_order_of_settings_makes_no_difference_and_names_are_safe():
    one = Variant("a", {"masking.patch_sides": [1, 2], "diffusion.objective": "../noise $(x)"})
    two = Variant("b", dict(reversed(list(one.changes.items()))))
    assert one.names == two.names
    assert one.names["model"] == "objective=..-noise---x-+patch_sides=1-2"


def test_lines_that_share_a_variant_make_it_once_and_the_run_itself_is_none():
    sweeps = {
        "T2": {"ours": {"training.epochs": 8}, "noise": {"training.epochs": 8, "diffusion.objective": "noise"}},
        "T5": {"as T2": {"training.epochs": 8}, "as the run": {}},
    }
    found = combinations(sweep_variants(sweeps))
    assert list(found) == [("epochs=8", "base", "base"), ("objective=noise+epochs=8", "base", "base")]
