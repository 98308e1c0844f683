"""Recipes: what they expand to, what names a trial, and one clear line for everything that is not allowed."""

import re
from pathlib import Path

import pytest

from mtl.config import TrialSettings
from mtl.errors import BadInput
from search.recipe import Recipe, differing_settings, expand
from search.recipe_file import format_recipe, load_recipe, recipe_name, recipe_names
from tests.support.in_process import PENALTY_ALONE
from tests.support.small import config

PAPERS_LAMBDAS = (0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def test_shipped_recipes() -> None:
    assert recipe_names() == [
        "celebamask-hq",
        "celebamask-small",
        "cityscapes",
        "nyuv2",
        "nyuv2-mtan",
        "nyuv2-small",
        "rooms",
    ]
    for name in recipe_names():
        assert load_recipe(name).title
    for name in ("nyuv2", "celebamask-hq"):
        recipe = load_recipe(name)
        assert (recipe.backbone, recipe.backbone_width, recipe.backbone_layers) == ("resnet50", 64, None)
        assert (recipe.image_size, recipe.lr, recipe.protocol) == ((256, 256), 1e-4, "paper")
        assert (recipe.lambdas, recipe.seeds) == (PAPERS_LAMBDAS, 5)
    assert load_recipe("nyuv2").batch_size == 16
    assert load_recipe("celebamask-hq").batch_size == 32
    assert len(load_recipe("celebamask-hq").task_combinations) == 6
    mtan = load_recipe("nyuv2-mtan")
    assert (mtan.image_size, mtan.batch_size, mtan.epochs, mtan.lr) == ((288, 384), 8, 200, 1e-4)
    assert (mtan.backbone, mtan.protocol, mtan.lr_schedule) == ("resnet50", "mtan", "halved")


def test_rooms_is_what_make_sweep_promises() -> None:
    trials = expand(load_recipe("rooms"), "v")
    assert len({trial.tasks for trial in trials}) == 7
    assert len({trial.strength for trial in trials}) >= 3
    assert 0 in {trial.strength for trial in trials}
    assert {"path", "narrow"} <= {trial.compressor for trial in trials}
    assert len({trial.seed for trial in trials}) >= 2
    assert len({trial.trial_id for trial in trials}) == len(trials)


def test_combinations_in_the_recipes_order() -> None:
    recipe = load_recipe("rooms", ["combinations=normals+segmentation,depth"])
    assert recipe.task_combinations == (("segmentation", "normals"), ("depth",))
    assert load_recipe("rooms", ["combinations=single"]).task_combinations == (
        ("segmentation",),
        ("depth",),
        ("normals",),
    )
    assert len(load_recipe("rooms").task_combinations) == 7


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("lambdas=0,1e-5,1e-4", "lambdas", (0, 1e-5, 1e-4)),
        ("lambdas=[0, 1e-5]", "lambdas", (0, 1e-5)),
        ("lambdas=1e-5", "lambdas", (1e-5,)),
        ("seeds=2", "seed_list", (0, 1)),
        ("seeds=[3]", "seed_list", (3,)),
        ("seeds=3,5", "seed_list", (3, 5)),
        ("tasks=depth", "tasks", ("depth",)),
        ("augmentation=", "augmentation", ()),
        ("depth_loss=scale_invariant", "depth_loss", "scale_invariant"),
        ("label_smoothing=0", "label_smoothing", 0.0),
        ("image_size=48", "image_size", (48, 48)),
        ("image_size=48,64", "image_size", (48, 64)),
        ("backbone=resnet50", "backbone", "resnet50"),
    ],
)
def test_set(override: str, field: str, value: object) -> None:
    overrides = [override] if not override.startswith("tasks") else [override, "combinations=all"]
    assert getattr(load_recipe("rooms", overrides), field) == value


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lamdas=1", ["unknown field 'lamdas'", "did you mean lambdas", "epochs"]),
        ("lambdas=-1", ["lambdas = -1", "greater than or equal to 0"]),
        ("lambdas=0,-1e-3", ["lambdas = [0, -0.001]"]),
        ("lambdas=much", ["lambdas = much", "number"]),
        ("lambdas=nan", ["lambdas = nan"]),
        ("lambdas=inf", ["lambdas = inf"]),
        ("lambdas=", ["lambdas = []"]),
        ("lambdas=1,1", ["lambdas = [1.0, 1.0]", "each value once"]),
        ("seeds=0", ["seeds = 0"]),
        ("seeds=-1", ["seeds = -1"]),
        ("seeds=1.5", ["seeds = 1.5"]),
        ("seeds=2,2", ["each value once"]),
        ("epochs=0", ["epochs = 0"]),
        ("batch_size=1", ["batch_size = 1"]),
        ("lr=0", ["lr = 0"]),
        ("depth_loss=huber", ["depth_loss = huber", "l1", "mse", "log_rmse", "scale_invariant"]),
        ("label_smoothing=1", ["label_smoothing = 1", "less than 1"]),
        ("label_smoothing=-0.1", ["label_smoothing = -0.1", "greater than or equal to 0"]),
        ("label_smoothing=nan", ["label_smoothing = nan"]),
        ("image_size=8", ["image_size = 8"]),
        ("penalty=ridge", ["penalty = ridge", "group_lasso", "group_mcp", "l1"]),
        ("metric=adam", ["metric = adam", "adaptive", "euclidean"]),
        ("protocol=mine", ["protocol = mine", "standard", "paper"]),
        ("backbone=vgg", ["backbone = vgg", "resnet50"]),
        ("task_weighting=magic", ["task_weighting = magic", "uncertainty", "equal"]),
        ("combinations=segmentation+sound", ["'segmentation+sound'", "all, single"]),
        ("combinations=depth,depth", ["'depth' twice"]),
        ("combinations=depth+depth", ["'depth+depth'"]),
        ("epochs", ["'epochs'", "KEY=VALUE"]),
    ],
)
def test_bad_value_is_one_line_that_names_field_value_and_what_is_allowed(override: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        load_recipe("rooms", [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in [*words, "allowed"]:
        assert word in message


def test_unknown_recipe_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="celebamask-hq, celebamask-small, cityscapes, nyuv2, nyuv2-mtan, nyuv2-small, rooms"
    ):
        load_recipe("room")
    broken = tmp_path / "mine.toml"
    broken.write_text("dataset = \n")
    with pytest.raises(BadInput, match=f"{re.escape(str(broken))}: not a TOML file"):
        load_recipe(str(broken))
    broken.write_text('dataset = "rooms"\n')
    with pytest.raises(BadInput, match="is missing; allowed"):
        load_recipe(str(broken))


def test_a_printed_recipe_is_a_recipe(tmp_path: Path) -> None:
    for name in recipe_names():
        recipe = load_recipe(name, ["lambdas=0,1e-7"])
        path = tmp_path / f"{name}-copy.toml"
        path.write_text(format_recipe(recipe), encoding="utf-8")
        assert load_recipe(str(path)) == recipe
        assert recipe_name(str(path)) == f"{name}-copy"


def test_every_field_of_the_contract_is_there() -> None:
    contract = (
        "dataset tasks combinations lambdas seeds penalty metric backbone image_size batch_size lr weight_decay epochs"
    )
    assert set(contract.split()) | {"task_weighting", "protocol"} <= set(Recipe.model_fields)
    assert all(field.description for field in Recipe.model_fields.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [("strength", 2e-3), ("seed", 1), ("tasks", ("depth",)), ("epochs", 4), ("data_version", "other"), ("lr", 2e-3)],
)
def test_whatever_can_change_a_result_changes_the_trials_name(field: str, value: object) -> None:
    assert config(**{field: value}).trial_id != config().trial_id


def test_a_trials_name_is_for_good() -> None:
    """Names are in people's results: a change here makes every finished trial run again."""
    assert config().trial_id == config().trial_id
    assert re.fullmatch("[0-9a-f]{16}", config().trial_id)
    assert config(lr=0.001).trial_id == config(lr=1e-3).trial_id


def test_names_from_before_a_field_was_there_stay() -> None:
    assert config(method_version=1, precision="auto").trial_id == "9e34090fca9c633e"
    first = expand(load_recipe("rooms", ["path_epochs=0"]), "v")[0].model_copy(
        update={"method_version": 1, "precision": "auto"}
    )
    assert first.trial_id == "7f575e48e9e62458"
    again = {config(**later).trial_id for later in ({"measure_latency": True}, {"retraining": "scratch"})}
    assert len(again | {config().trial_id}) == 3


def test_a_sweep_from_before_a_field_was_there_goes_on() -> None:
    recipe = load_recipe("rooms")
    old = recipe.model_dump(mode="json")
    for field in ("measure_latency", "retraining"):
        del old[field]
    assert differing_settings(old, recipe) == []
    assert differing_settings(old, load_recipe("rooms", ["retraining=none,scratch"])) == []
    assert differing_settings(old, load_recipe("rooms", ["measure_latency=true"])) == ["measure_latency"]


ONE = (*PENALTY_ALONE, "combinations=depth", "seeds=1", "lambdas=0,1e-3")


def test_no_value_takes_an_entry_of_a_table_away() -> None:
    assert "compressor" in load_recipe("rooms").search_space
    without = load_recipe("rooms", ["search_space.compressor=", "search_space.lr=1e-3,1e-2"])
    assert "compressor" not in without.search_space
    assert without.search_space["lr"] == (1e-3, 1e-2)
    assert load_recipe("rooms", ["search_space.lr=[]"]).search_space["lr"] == ()


def test_each_sparse_trial_is_retrained_in_each_way_and_beside_the_dense_one_is_one_of_as_many_epochs() -> None:
    recipe = load_recipe("rooms", [*ONE, "retraining=none,scratch"])
    trials = [(trial.strength, trial.retraining) for trial in expand(recipe, "v")]
    assert trials == [(0, "none"), (0, "longer"), (1e-3, "none"), (1e-3, "scratch")]
    alone = load_recipe("rooms", [*ONE, "retraining=fine_tune"])
    assert [(t.strength, t.retraining) for t in expand(alone, "v")] == [(0, "none"), (0, "longer"), (1e-3, "fine_tune")]
    for overrides in (["lambdas=0", "retraining=scratch"], ["lambdas=0,1e-3"], ["lambdas=1e-3", "retraining=scratch"]):
        some = load_recipe("rooms", [*PENALTY_ALONE, "combinations=depth", "seeds=1", *overrides])
        assert [one.retraining for one in expand(some, "v") if one.strength == 0] == ["none"] * (0 in some.lambdas)
    last = expand(alone, "v")[-1]
    assert str(last) == f"{last.trial_id} depth lambda=0.001 seed=0 retraining=fine_tune"
    dense, longer, _ = expand(alone, "v")
    assert str(longer) == f"{longer.trial_id} depth lambda=0 seed=0 retraining=longer"
    assert [one.total_epochs for one in (dense, longer, last)] == [8, 16, 16]
    assert [one.epochs_a_training for one in (dense, longer, last)] == [8, 16, 8]
    with pytest.raises(BadInput, match=r"retraining = .*twice.*; allowed"):
        load_recipe("rooms", ["retraining=twice"])
    with pytest.raises(BadInput, match="each value once"):
        load_recipe("rooms", ["retraining=scratch,scratch"])


def test_how_trials_are_run_is_not_what_they_are() -> None:
    recipe = load_recipe("rooms")
    resources = ["cpus_per_trial=2", "max_retries=5", "checkpoint_seconds=1"]
    stopping = ["early_stopping=mo_asha", "grace_epochs=2", "reduction_factor=2", "objectives=val_depth_mae"]
    other = load_recipe("rooms", [*resources, *stopping, "lambdas=0,5", "seeds=9"])
    assert not {trial.trial_id for trial in expand(recipe, "v")}.isdisjoint(t.trial_id for t in expand(other, "v"))
    assert differing_settings(recipe.model_dump(mode="json"), other) == []
    assert differing_settings(recipe.model_dump(mode="json"), load_recipe("rooms", ["epochs=99"])) == ["epochs"]


SETTINGS = {
    **{"title": "x", "combinations": "single", "lambdas": [0.5], "seeds": 3, "retraining": ["scratch"]},
    **{"early_stopping": "asha", "grace_epochs": 1, "reduction_factor": 4, "objectives": ["delta_m"]},
    **{"search_space": {"lr": [1e-3, 1e-2]}, "sampler": "tpe", "constraints": ["group_sparsity>=0.5"]},
    **{"racing": False, "cpus_per_trial": 2, "max_retries": 3, "checkpoint_seconds": 5, "loader_threads": 4},
    **{"tensorboard": True, "mlflow": "x", "wandb": "x", "penalty": "l1", "tasks": ["depth"]},
    **{"measure_latency": True, "resident": True},
}


@pytest.mark.parametrize("field", SETTINGS)
def test_what_is_no_part_of_a_setup_leaves_its_name(field: str) -> None:
    rooms = load_recipe("rooms")
    other = Recipe.model_validate(rooms.model_dump() | {field: SETTINGS[field]})
    assert getattr(other, field) != getattr(rooms, field)
    assert {one.setup_id for one in expand(other, "v")} == {one.setup_id for one in expand(rooms, "v")}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    "field", sorted({*TrialSettings.model_fields, "data_version", "weights_version"} - {*SETTINGS, "weights"})
)
def test_whatever_else_a_trial_has_is_part_of_its_setup(field: str) -> None:
    """A new field must be put in one list or the other. The weights count by their version and not by their path."""
    changed = config()
    assert changed.model_copy(update={field: "other"}).setup_id != changed.setup_id


def test_trials_are_first_compared_after_a_third_of_the_epochs() -> None:
    assert load_recipe("rooms", ["epochs=8"]).first_rung == 2
    assert load_recipe("rooms", ["epochs=2"]).first_rung == 1
    assert load_recipe("rooms", ["epochs=8", "grace_epochs=5"]).first_rung == 5
