"""Configuration: what is wrong is named in one line, recipes merge, and stages read only what is theirs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from decodiff.config import load, validate, write_config
from decodiff.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def demo(**changes):
    """The demo's settings with dotted keys replaced."""
    settings = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        section = settings
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return settings


@pytest.mark.parametrize("name", ["config", "per-category", "demo", "mtd", "surfaces", "search", "gpu"])
def test_every_configuration_is_valid_and_survives_being_written_down(tmp_path, name):
    config = load(ROOT / f"config/{name}.yaml")
    write_config(config, tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trainig": {}}, r"trainig: unknown key; did you mean training\? config/README.md has those there are$"),
        ({"qqqq": {}}, "qqqq: unknown key; config/README.md has those there are$"),
        # once, and not for every line of the sweeps too
        ({"correction__steps": 7, "sweeps": {"T3": {"a": {"scoring.pixel_clip": 0.3}}}}, "^[^;]*no stride[^;]*; choose[^;]*$"),
        ({"training__epoch": 3}, "training.epoch: unknown key"),
        ({"training__epochs": "many"}, "training.epochs: .*integer.*'many'"),
        ({"training__unet": "UNet_XXL"}, "training.unet: .*'UNet_XS'.*'UNet_XXL'"),
        ({"training__learning_rate": -1}, "training.learning_rate: .*greater than 0, got -1"),
        ({"correction__steps": 6}, "correction.steps: no stride over 10 training timesteps gives 6"),
        ({"sweeps": {"T4": {"six": {"correction.steps": 6}}}}, "sweeps: correction.steps: no stride over 10"),
        ({"sweeps": {"T3": {"a": {"evaluation.protocol": "reference"}}}}, "sweeps: 'evaluation.protocol'; expected a key of"),
        ({"sweeps": {"T3": {"a": {"scoring.colour": 1}}}}, "sweeps: scoring.colour: unknown key"),
        ({"sweeps": {"T9": {"a": {}}}}, "sweeps.*'T2', 'T3'"),
        ({"training__kept_epochs": [10, 25]}, "training: kept_epochs: 25 never comes in 24 epochs; leave it out"),
        ({"training__kept_epochs": [10, 5]}, r"training: kept_epochs \[10, 5\] must ascend and name each epoch once"),
        ({"training__kept_epochs": [5, 5]}, r"training: kept_epochs \[5, 5\] must ascend and name each epoch once"),
        ({"training__kept_epochs": [0]}, "training.kept_epochs.0: .*greater than 0, got 0"),
        ({"sweeps": {"T6": {"a": {"training.kept_epochs": [1]}}}}, "sweeps: training.kept_epochs: only the run's own networks"),
        ({"image__crop": 63}, "image.crop: 63 is not a multiple of the autoencoder's 4 pixels per cell"),
        ({"image__crop": 72}, "image.crop: 72 is larger than image.resize 64"),
        ({"masking__patch_sides": [1, 2, 4, 5]}, "masking.patch_sides: 5 does not divide"),
        ({"masking__patch_probabilities": [0.5, 0.1]}, "masking: .*same length"),
        ({"masking__patch_probabilities": [0.5, 0.1, 0.1, 0.1]}, "masking: .*sum to 0.8, expected 1"),
        ({"autoencoder__source": "magic"}, "autoencoder: .*'pretrained', 'train'"),
        ({"data": {"imagenet": {}}, "scopes": {"all": ["imagenet"]}}, "data.imagenet: no such data set; choose one of demo"),
        ({"data": {"bolts": {"kind": "imagenet"}}, "scopes": {"all": ["bolts"]}}, "data.bolts: no such data set; choose"),
        ({"data": {"visa": {"kind": "folder"}}, "scopes": {"all": ["visa"]}}, "data.visa.kind: visa is a data set by itself"),
        (
            {"data": {"mine": {"kind": "made"}, "demo": {}}},
            r"data.mine.of: not set; name the data set whose training images get defects \(demo\)",
        ),
        ({"data": {"made": {"of": "x"}, "demo": {}}}, r"data.made.of: 'x' is not under data, or is made itself; .* \(demo\)"),
        (
            {"data": {"mine": {"kind": "made", "of": "mine"}, "demo": {}}},
            "data.mine.of: 'mine' is not under data",
        ),
        ({"data": {"a": {"kind": "made", "of": "made"}, "made": {"of": "demo"}, "demo": {}}}, "data.a.of: 'made' is not under"),
        ({"data": {"demo": {"of": "visa"}, "visa": {}}}, "data.demo.of: only with kind made; leave it out"),
        (
            {"data": {"made": {"of": "demo", "hold_out": 0.1}, "demo": {}}},
            "data.made: source, split and hold_out are those",
        ),
        ({"sweeps__T13": {"a": {}}}, "sweeps.T13: compares settings on made defects; have a data set of kind made in a scope"),
        (
            {"data": {"visa": {"split": "released"}}, "scopes": {"all": ["visa"]}},
            "data.visa.split: VisA has no split 'released'",
        ),
        ({"data": {"visa": {"split": "half"}}, "scopes": {"all": ["visa"]}}, "data.visa.split: .*'all' or 'released'.*'half'"),
        ({"scopes": {"all": ["visa"]}}, "scopes.all: 'visa' is not under data"),
        ({"scopes": {"all": ["demo/bolt"]}}, "scopes.all: demo has no category 'bolt'"),
        ({"scopes": {"all": ["demo", "demo/ring"]}}, "scopes.all: 'demo/ring' is already part of 'demo'"),
        ({"scopes": {"tables": ["demo"]}}, "scopes.tables: this name is taken"),
        ({"scopes": {"floor": ["demo"]}}, "scopes.floor: this name is taken"),
        ({"sweeps__T3": {"floor": {}}}, "sweeps.T3: 'floor' is a line that every table has; call yours otherwise"),
        ({"floor": {"patch_side": 16}, "image": {"resize": 8, "crop": 8}}, "floor.patch_side: 16 is larger than image.crop 8"),
        ({"floor": {"variance_kept": 1}}, "floor.variance_kept: .*less than or equal to 0.9999, got 1"),
        ({"seeds": []}, "seeds: .*at least 1"),
        ({"seeds": [0, 0]}, "seeds: each must be named once"),
        ({"training__warmup_epochs": 24}, "training: warmup_epochs 24 leaves nothing of 24 epochs"),
        ({"autoencoder": {"source": "train", "downsampling": 3}}, "autoencoder: downsampling 3 is not one of 2, 4, 8, 16"),
        ({"data__demo__augmentation": {"max_shift": 2}}, "max_shift and rotation_degrees need a margin of 2 .*, there are 0"),
        ({"diffusion": {"trained_timesteps": 6}}, "diffusion.trained_timesteps: no stride over 10 .* gives 6"),
        ({"diffusion": {"objective": "noise"}}, "correction.noise_timestep: None with .* noise; choose one of 0, 2, 4, 6, 8"),
        (
            {"diffusion": {"objective": "noise"}, "correction": {"noise_timestep": 6, "steps": 4}},
            "correction.steps: 4 does not divide 10",
        ),
        ({"correction": {"noise_timestep": 4}}, "correction.noise_timestep: nothing is noised"),
        ({"model": {"source": "reference", "path": "x"}, "seeds": [0, 1]}, "seeds: weights that are not trained here"),
        ({"model": {"source": "hub"}}, "model: .*'train', 'reference'"),
        (
            {"data": {"mine": {"kind": "folder"}}, "scopes": {"only_{category}": ["mine"]}},
            r"scopes.only_{category}: the categories of 'mine' are not known before.*; write .* as 'only_bolt': \[mine/bolt\]",
        ),
        ({"data": {"mine": {"kind": ["csv"]}}, "scopes": {"{category}": ["mine"]}}, "the categories of 'mine' are not known"),
        ({"scopes": {"{category}": ["visa"]}}, "scopes.{category}: 'visa' is not under data; .* names whole data sets"),
        ({"scopes": {"{category}": ["demo/ring"]}}, "scopes.{category}: 'demo/ring' is not under data; .* whole data sets"),
        ({"scopes": {"{category}": []}}, "scopes.{category}.*match pattern"),
        ({"scopes": {"ring": ["demo"], "{category}": ["demo"]}}, "scopes.{category}: there is a scope 'ring' already; tell"),
        ({"scopes": {"{category}": ["demo"], "ring": 5}}, "scopes.ring: there is a scope 'ring' already"),
        (
            {"data": {"mvtec_ad": {}, "real_iad": {}}, "scopes": {"{category}": ["mvtec_ad", "real_iad"]}},
            "there is a scope 'toothbrush' already; tell them apart, as by '<data set>_{category}'",
        ),
        ({"run": "../../elsewhere"}, "run: .*match pattern"),
        ({"run": "a\n"}, r"run: .*match pattern.*'a\\n'"),
        ({"recipe": "x" * 5000}, "recipe: no recipe 'x+[.][.][.]x+' in config/recipes"),
        ({"recipe": "../recipes/paper"}, "recipe: no recipe '../recipes/paper' in"),
        ({"training__learning_rate": float("inf")}, "training.learning_rate: .*finite number, got inf"),
        ({"scoring__pixel_sigma": float("1e400")}, "scoring.pixel_sigma: .*finite number, got inf"),
        ({"training__epochs": True}, "training: epochs: expected a number or a word, found true or false"),
        ({"seeds": [True]}, "seeds: expected a number or a word, found true or false"),
        ({"data": {"mine": {"kind": ["folder"]}}}, "data.mine.kind: .*valid string"),
        ({"data": {1: {}}}, "data.1.*valid string, got 1"),
        ({"scopes": {"{category}": 5}}, "scopes.*got 5"),
        ({"scopes": {"{category}": [{}]}}, "scopes.*valid string"),
        ({"scopes": {("{category}",): ["demo"]}}, "scopes.*valid string"),
        ({"scopes": {"all": ["demo/../../x"]}}, "scopes.all: demo has no category '../../x'"),
        ({"recipe": "secret"}, "recipe: no recipe 'secret' in config/recipes; choose one of paper, released"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes, expected):
    with pytest.raises(InputError, match=expected) as error:
        validate(demo(**changes))
    assert "\n" not in str(error.value)


def test_several_mistakes_are_all_named():
    with pytest.raises(InputError, match="training.epochs.*scoring.fusion"):
        validate(demo(training__epochs=0, scoring={"fusion": "sum"}))


@pytest.mark.parametrize(("text", "expected"), [("a: [", "not YAML"), ("- a", "expected a mapping"), (None, "cannot read")])
def test_files_that_are_no_configuration(tmp_path, text, expected):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"mine.yaml: {expected}"):
        load(path)


def test_yaml_tags_are_not_executed(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"run: !!python/object/apply:os.system ['touch {tmp_path}/executed']\n")
    with pytest.raises(InputError, match="not YAML"):
        load(path)
    assert not (tmp_path / "executed").exists()


LAUGHS = "\n".join(["a: &a [1, 2]", *(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi"))])
MAPPED = "\n".join(
    ["a: &a {k: 1}", *(f"{b}: &{b} {{x: *{a}, y: *{a}}}" for a, b in zip("abcdefghijklmnop", "bcdefghijklmnopq"))]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAUGHS, "more than 10,000 values, aliases counted as what they stand for"),
        (MAPPED, "more than 10,000 values"),
        ("a: &a [*a]", "more than 10,000 values"),
        ("a: " + "[" * 100_000, "not YAML"),
        ("a: " + "{a: " * 5000 + "}" * 5000, "not YAML"),
        ("run: a\nrun: b", "not YAML .'run' stands there twice"),
        ("image: {crop: 1, crop: 2}", "not YAML .'crop' stands there twice"),
        ("run: !!timestamp x", "not YAML"),
        ("run: !!bool x", "not YAML"),
        ("run: 2020-13-45", "not YAML"),
        ("seed: " + "9" * 10_000, "not YAML"),
        ("run: a\0b", "not YAML"),
        ("? [a]\n: 1", "not YAML"),
        ("run: a\n---\nrun: b", "not YAML"),
        ("__use_yte__: true\nrun: ?open('executed', 'w')", "__use_yte__: unknown key"),
    ],
)
def test_hostile_yaml_is_one_line(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"evil.yaml: .*{expected}") as error:
        load(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000
    assert [found.name for found in tmp_path.iterdir()] == ["evil.yaml"]


def test_variants_keep_no_networks_so_that_they_may_train_for_less():
    config = validate(demo(training__kept_epochs=[10, 20]))
    assert config.training.kept_epochs == (10, 20)
    varied = config.varied({"training.epochs": 6}).training
    assert (varied.epochs, varied.kept_epochs) == (6, ()) and config.varied({}) == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.batch_size", 10**9, "1,000,000,000 need 45,776 GiB for a batch of pictures alone; give fewer"),
        ("correction.batch_size", 10**9, "correction.batch_size: 1,000,000,000 need 45,776 GiB"),
        ("scoring.batch_size", 10**9, "scoring.batch_size: 1,000,000,000 need 45,776 GiB"),
        ("autoencoder.batch_size", 10**9, "autoencoder.batch_size: 1,000,000,000 need 11,444 GiB for a batch of crops"),
        ("autoencoder.channels", 10**6, "autoencoder.channels: 1,000,000 need 33,528 GiB for the weights of one convolution"),
        ("floor.patches", 10**10, "floor.patches: 10,000,000,000 need 1,788 GiB for the patches"),
        ("evaluation.resamples", 10**12, "evaluation.resamples: 1,000,000,000,000 need 33,528 GiB"),
    ],
)
def test_what_no_machine_has_room_for_is_refused_with_what_it_would_need(key, value, message):
    settings = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    settings["autoencoder"] = {"source": "train", "crop": 32}
    section, name = key.split(".")
    settings.setdefault(section, {})[name] = value
    with pytest.raises(InputError, match=re.escape(message)):
        validate(settings)
    validate(settings | {section: settings[section] | {name: 200}})


def test_aliases_and_merged_keys_that_stay_small_are_allowed(tmp_path):
    text = yaml.safe_dump(demo(), sort_keys=False)
    merged = text.replace("image:\n", "image:\n  <<: {resize: 7}\n", 1)
    assert merged != text
    (tmp_path / "mine.yaml").write_text(merged)
    assert load(tmp_path / "mine.yaml") == validate(demo()), "what is written out goes before what is merged in"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["demo", "{category}", "train"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(settings, before=()):
    for key, value in settings.items():
        yield (*before, key)
        yield from paths(value, (*before, key)) if isinstance(value, dict) else ()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_stands_under_a_key_a_configuration_or_one_line(data):
    changed = demo()
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(sorted(paths(changed), key=repr)))
        section = changed
        for key in above:
            section = section[key]
        section[last if data.draw(st.booleans()) else data.draw(st.text(max_size=9))] = data.draw(VALUES)
    try:
        validate(changed)
    except InputError as error:
        assert str(error).isprintable()


def test_a_configuration_overrides_its_recipe_key_by_key():
    config = load(ROOT / "config/config.yaml")
    assert config.training.unet == "UNet_L" and config.training.gradient_accumulation == 2
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"training": {"unet": "UNet_XS"}}
    assert validate(settings).training == config.training.model_copy(update={"unet": "UNet_XS"})


# the table of docs/method.md
RECIPES = {
    "paper": {
        "diffusion": {"num_train_timesteps": 1000, "trained_timesteps": 10},
        "correction": {"steps": 5, "num_train_timesteps": 10},
        "masking": {"patch_sides": (1, 2, 4, 8), "patch_probabilities": (0.4, 0.3, 0.2, 0.1)},
        "training": {"gradient_accumulation": 1, "epochs": 800, "batch_size": 128, "learning_rate": 1e-4},
        "scoring": {"latent_clip": 0.4, "pixel_clip": 0.4, "fused_sigma": 1.0},
        "visa": {"rotation_degrees": 3, "rotation_probability": 0.3, "shift_probability": 0.8, "brightness": 0.05},
        "mvtec_ad": {"max_shift": 4, "shift_probability": 0.5},
    },
    "released": {
        "diffusion": {"num_train_timesteps": 10, "trained_timesteps": None},
        "correction": {"steps": 5, "num_train_timesteps": None},
        "masking": {"patch_sides": (1, 2, 4, 8, 16), "patch_probabilities": (0.3, 0.25, 0.2, 0.15, 0.1)},
        "training": {"gradient_accumulation": 2, "epochs": 800, "batch_size": 128, "learning_rate": 1e-4},
        "scoring": {"latent_clip": 0.2, "pixel_clip": 0.4, "fused_sigma": 0.0},
        "visa": {"half_turn_probability": 0.5, "shift_probability": 0.5, "rotation_probability": 0.0},
        "mvtec_ad": {"max_shift": 4, "shift_probability": 0.5},
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_holds_every_constant_of_its_public_code(recipe):
    config = validate(yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"recipe": recipe})
    for name, expected in RECIPES[recipe].items():
        section = config.data[name].augmentation if name in config.data else getattr(config, name)
        assert {key: getattr(section, key) for key in expected} == expected, name
    training = config.training
    assert (training.ema_decay, training.clip_gradient_norm, training.look_every) == (None, None, 0)
    assert config.data["mvtec_ad"].augmentation.is_finite
    assert config.data["visa"].augmentation.is_finite == (recipe == "released")


def test_an_augmentation_of_ones_own_goes_before_the_recipes():
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    settings["data"] = {"visa": {"augmentation": {"max_shift": 1}}, "mine": {"kind": "mvtec_ad", "source": "x"}}
    config = validate(settings | {"scopes": {"all": ["visa", "mine"]}})
    assert config.data["visa"].augmentation.max_shift == 1
    assert config.data["visa"].augmentation.half_turn_probability == 0
    assert config.data["mine"].augmentation.max_shift == 4, "by its kind, or the default"


def test_a_scope_for_each_category():
    config = validate(demo(scopes={"only_{category}": ["demo"], "all": ["demo"]}))
    assert {scope: config.members(scope) for scope in config.scopes} == {
        "only_weave": {"demo": ("weave",)},
        "only_ring": {"demo": ("ring",)},
        "only_grid": {"demo": ("grid",)},
        "all": {"demo": ("weave", "ring", "grid")},
    }


def test_a_scope_for_each_category_of_several_data_sets():
    data = {"demo_parts": {}, "mine": {"kind": "demo_surfaces", "source": "x"}}
    config = validate(demo(data=data, scopes={"{category}": ["demo_parts", "mine"]}, sweep_scopes=["brushed"]))
    assert dict(config.scopes) == {"bolt": ("demo_parts/bolt",), "tiles": ("mine/tiles",), "brushed": ("mine/brushed",)}


def test_per_category_training_differs_from_the_papers_run_in_its_scopes_alone():
    paper, config = (load(ROOT / f"config/{name}.yaml") for name in ("config", "per-category"))
    apart = {"run", "scopes", "sweeps"}
    assert config.model_dump(exclude=apart) == paper.model_dump(exclude=apart)
    assert not config.sweeps and paper.scopes.items() <= config.scopes.items()
    single = {member for scope, (member,) in config.scopes.items() if scope not in paper.scopes}
    assert single == {f"{name}/{category}" for name in config.data for category in config.entry(name).categories}


def test_a_stage_reads_only_the_data_set_it_works_on():
    config = load(ROOT / "config/config.yaml")
    assert config.sections("encode", "visa")["augmentation"] == config.data["visa"].augmentation
    assert "training" not in config.sections("score")


def test_a_data_set_of_ones_own_name_is_of_a_known_kind():
    own = {"mine": {"kind": "folder", "source": "x"}, "old": {"kind": "mvtec_ad", "split": "released", "source": "y"}}
    config = validate(demo(data=own, scopes={"all": ["mine/bolt", "old"], "one": ["mine"]}))
    assert config.sections("fetch", "old") == {"source": "y", "kind": "mvtec_ad", "split": "released", "hold_out": 0.0}
    assert config.members("all") == {"mine": ("bolt",), "old": config.entry("old").categories}
    assert config.members("one") == {"mine": ()}, "what its folder turns out to hold"
    with pytest.raises(InputError, match="scopes.all: old has no category 'bolt'"):
        validate(demo(data=own, scopes={"all": ["old/bolt"]}))


def test_made_defects_go_by_the_data_set_they_are_made_of():
    data = {"made": {"of": "demo"}, "demo": {"augmentation": {"half_turn_probability": 0.5}}}
    config = validate(demo(data=data, scopes={"{category}": ["made"], "all": ["made"]}, sweeps={"T13": {"a": {}}}))
    assert config.data["made"].augmentation == config.data["demo"].augmentation
    assert config.members("all") == {"made": ("weave", "ring", "grid")} and config.members("ring") == {"made": ("ring",)}
    assert config.arrays == ["made"], "its images need only be fetched"
    assert validate(demo(data=data, scopes={"all": ["demo", "made"]})).arrays == ["made", "demo"]
    known = {"demo": {"brightness": 0.1}, "made": {"brightness": 0.3}, "default": {"brightness": 0.2}}
    config = validate(demo(data={"made": {"of": "demo"}, "demo": {}}, scopes={"all": ["made"]}, augmentation=known))
    assert config.data["made"].augmentation.brightness == 0.1
    data = {"made": {"of": "demo"}, "own": {"kind": "made", "of": "demo", "pose": "as_is"}, "demo": {"pose": "long_axis"}}
    config = validate(demo(data=data, scopes={"all": ["made", "own"]}))
    assert (config.data["made"].pose, config.data["own"].pose) == ("long_axis", "as_is")


def test_members_keep_the_registrys_order_and_name_single_categories():
    config = validate(demo(scopes={"all": ["demo"], "one": ["demo/grid"]}))
    assert config.members("all") == {"demo": ("weave", "ring", "grid")}
    assert config.members("one") == {"demo": ("grid",)}


LOCKS = [
    "requirements.lock",
    "config/adapters/anomalib.lock",
    *(f"requirements-{name}.lock" for name in ("cpu", "cuda", "uv", "test", "dvc", "extras", "tools", "docs")),
]


def normal(requirement):
    return re.sub(r"[-_.]+", "-", requirement).lower()


def locked(name):
    """Packages of a lock with their versions. Every one has a version and at least one checksum, and nothing else is there."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith(("#", "--extra-index-url "))]
    entries = re.findall(r"^\S.*(?:\n    .*)*", "\n".join(lines), re.M)
    pattern = r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+(?: \\\n    --hash=sha256:[0-9a-f]{64})+"
    assert entries and all(re.fullmatch(pattern, entry) for entry in entries)
    return {normal(entry.split()[0]) for entry in entries}


def test_the_same_versions_everywhere_each_with_its_checksum():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct, tested = (
        {normal(name) for name in names} for names in (project["dependencies"], project["optional-dependencies"]["test"])
    )
    packages = {name: locked(name) for name in LOCKS}
    assert (
        tested <= packages["requirements-test.lock"] and not packages["requirements.lock"] & packages["requirements-test.lock"]
    )
    for torch in ("requirements-cpu.lock", "requirements-cuda.lock"):
        assert direct <= packages["requirements.lock"] | packages[torch]
        assert not packages["requirements.lock"] & packages[torch], "each is installed once"
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "python=3.11" in conda and project["requires-python"].startswith(">=3.11")
    assert {"pip": ["-r requirements-cpu.lock", "-r requirements.lock"]} in conda, "conda takes the locks themselves"


def test_the_keys_in_the_documents_are_those_of_the_definition():
    readme = ROOT / "config/README.md"
    command = [sys.executable, ROOT / ".ci/configuration.py", readme]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert made == readme.read_text(encoding="utf-8"), "make configuration"


def test_the_licences_of_all_that_is_locked_are_listed():
    listed = re.findall(r"^\| ([A-Za-z0-9._-]+) \| (\d[A-Za-z0-9.!+-]*) \|", (ROOT / "docs/licences.md").read_text(), re.M)
    found = {normal(f"{name}=={version.partition('+')[0]}") for name, version in listed}
    installed = set().union(*(locked(f"requirements{name}.lock") for name in ("", "-cpu", "-uv", "-test", "-dvc", "-extras")))
    assert found == {package for package in installed if not package.startswith("setuptools==")}, "which every environment has"
