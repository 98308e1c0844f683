"""What a search may propose, and the trials that follow: no two names for one trial, and nothing outside the space."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.networks.model import build_model
from mtl.task_weighting.registry import TASK_WEIGHTINGS
from mtl.training import make_optimizer
from search.recipe_file import load_recipe
from search.tuning.axis import DENSE_BIN, LAMBDA
from search.tuning.space import STAGES, SearchSpace, make_space
from tests.support.in_process import PENALTY_ALONE
from tests.support.made_up_search import space
from tests.support.small import TASKS, config

WIDE = space(
    *("search_space.lambda=[1e-3, 10]", "search_space.lr=[1e-3, 2e-2]", "search_space.weight_decay=[0, 0.1]"),
    *("search_space.penalty=group_mcp,l1", "search_space.metric=adaptive,euclidean", "search_space.batch_size=8,32"),
    *("search_space.combination=segmentation+depth,normals", "search_space.lambda_stage2=[0.1, 0.5]"),
    "retraining=none,fine_tune",
)
LISTED = space("search_space.lambda=[1e-3, 1e-2, 0.5]")


def fractions(of: SearchSpace) -> st.SearchStrategy[dict[str, Any]]:
    """Any parameters that Optuna may propose."""
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for name, one in of.distributions.items():
        if isinstance(one, CategoricalDistribution):
            strategies[name] = st.sampled_from(one.choices)
        else:
            assert isinstance(one, FloatDistribution)
            strategies[name] = st.floats(one.low, one.high)
    return st.fixed_dictionaries(strategies)


def test_distributions() -> None:
    assert WIDE.distributions == {
        LAMBDA: FloatDistribution(1e-3 * DENSE_BIN, 10, log=True),
        "lr": FloatDistribution(1e-3, 2e-2, log=True),
        "weight_decay": FloatDistribution(0, 0.1),  # which has no logarithm at its lower end
        "lambda_stage2": FloatDistribution(0.1, 0.5, log=True),
        "penalty": CategoricalDistribution(("group_mcp", "l1")),
        "metric": CategoricalDistribution(("adaptive", "euclidean")),
        "batch_size": CategoricalDistribution((8, 32)),
        "combination": CategoricalDistribution(("segmentation+depth", "normals")),
        "retraining": CategoricalDistribution(("none", "fine_tune")),
    }


def test_lambda_left_out_is_the_range_of_the_recipes_lambdas() -> None:
    of = make_space(load_recipe("nyuv2-small", [*PENALTY_ALONE, "lambdas=0,1e-4,1e-2,1"]), "made up")
    assert (of.axes[LAMBDA].values, of.axes[LAMBDA].listed) == ((1e-4, 1.0), False)
    assert of.distributions == {LAMBDA: FloatDistribution(1e-4 * DENSE_BIN, 1, log=True)}


@pytest.mark.parametrize(
    ("value", "strength"),
    [
        (DENSE_BIN * 1e-3, 0.0),
        (0.945e-3, 0.0),  # nearer to the dense bin's other end
        (0.955e-3, 1e-3),
        (1e-3, 1e-3),
        (0.0123456, 0.0123),
        (9.999, 10.0),
        (10.0, 10.0),
    ],
)
def test_lambda_is_rounded_and_0_below_its_range(value: float, strength: float) -> None:
    assert space("search_space.lambda=[1e-3, 10]").config({LAMBDA: value}, 0).strength == strength


def test_listed_lambdas_take_the_nearest_by_ratio() -> None:
    assert LISTED.config({LAMBDA: 0.0009}, 0).strength == 0
    assert LISTED.config({LAMBDA: 0.00099}, 0).strength == 1e-3
    edge = math.sqrt(1e-2 * 0.5)
    assert LISTED.config({LAMBDA: edge * 0.99}, 0).strength == 1e-2
    assert LISTED.config({LAMBDA: edge * 1.01}, 0).strength == 0.5


@given(fractions(WIDE))
def test_parameters_become_the_trials_own_fields(params: dict[str, Any]) -> None:
    for one, seed in zip(WIDE.configs(params), WIDE.recipe.seed_list, strict=True):
        assert (one.seed, one.strength) == (seed, WIDE.axes[LAMBDA].read(params[LAMBDA]) or 0)
        assert (one.lr, one.batch_size) == (float(f"{params['lr']:.3g}"), params["batch_size"])
        assert one.combination == params["combination"]
        if one.strength:
            assert (one.penalty, one.metric) == (params["penalty"], params["metric"])
            assert one.retraining == params["retraining"]
            assert one.stage_factors == (1, float(f"{params['lambda_stage2']:.3g}"), 1, 1)
        assert one.epochs == WIDE.recipe.epochs


def test_retraining_of_one_kind_is_every_proposals_but_the_dense_models() -> None:
    of = space("retraining=scratch")
    assert list(of.distributions) == [LAMBDA]
    assert {one.retraining for one in of.configs(of.default_params(1.0))} == {"scratch"}
    assert {one.retraining for one in of.configs(of.dense_params)} == {"none"}
    listed = space("retraining=scratch", "search_space.retraining=none,fine_tune")
    assert listed.distributions["retraining"] == CategoricalDistribution(("none", "fine_tune"))


@given(fractions(WIDE), st.integers(0, 5))
def test_parameters_of_a_trial_give_that_trial(params: dict[str, Any], seed: int) -> None:
    trial = WIDE.config(params, seed)
    found = WIDE.params_of(trial)
    assert found is not None
    assert set(found) == set(WIDE.distributions)
    assert WIDE.config(found, seed) == trial


ROUGH = space(
    "search_space.lambda=[1.2346e-3, 9.8765]", "search_space.lr=[1.2346e-3, 0.19996]",
    "search_space.label_smoothing=[0, 0.99999]",
)  # fmt: skip


@given(fractions(ROUGH))
def test_rounding_leaves_no_range(params: dict[str, Any]) -> None:
    trial = ROUGH.config(params, 0)
    assert trial.strength == 0 or 1.2346e-3 <= trial.strength <= 9.8765
    assert 1.2346e-3 <= trial.lr <= 0.19996
    assert ROUGH.params_of(trial) is not None


@given(fractions(WIDE), st.sampled_from(["penalty", "metric", "lambda_stage2", "retraining"]), st.data())
def test_how_a_dense_model_would_be_penalised_makes_no_other_trial(
    params: dict[str, Any], name: str, data: st.DataObject
) -> None:
    dense = params | {LAMBDA: WIDE.dense_params[LAMBDA]}
    other = dense | {name: data.draw(fractions(WIDE))[name]}
    assert WIDE.config(dense, 0).trial_id == WIDE.config(other, 0).trial_id
    sparse = params | {LAMBDA: 1.0}
    same = WIDE.config(sparse | {name: other[name]}, 0).trial_id == WIDE.config(sparse, 0).trial_id
    assert same == (WIDE.config(sparse | {name: other[name]}, 0) == WIDE.config(sparse, 0))


@pytest.mark.parametrize(
    "other",
    [{"strength": 20.0}, {"strength": 1e-4}, {"lr": 1.0}, {"penalty": "group_lasso"}, {"tasks": ("depth",)},
     {"epochs": 3}, {"data_version": "other"}, {"image_size": (32, 32)}, {"stage_factors": (1.0, 0.3, 1.0, 2.0)}],
)  # fmt: skip
def test_a_trial_outside_the_space_has_no_parameters(other: dict[str, Any]) -> None:
    inside = WIDE.config(WIDE.default_params(1.0), 0)
    assert WIDE.params_of(inside) is not None
    assert WIDE.params_of(inside.model_copy(update=other)) is None


def test_a_grid_has_each_trial_once_and_the_dense_model_first() -> None:
    of = space("search_space.lambda=[1e-3, 1e-2, 1]", "search_space.penalty=group_lasso,l1", "search_space.lr=[1, 2]")
    with pytest.raises(BadInput, match=r"search_space\.lr is a range; allowed with sampler grid: a list"):
        of.grid()
    of = space(
        *("search_space.lambda=[1e-3, 1e-2, 1]", "search_space.penalty=group_lasso,l1"),
        "search_space.batch_size=8,16",
    )
    ids = [of.config(params, 0).trial_id for params in of.grid()]
    assert len(set(ids)) == len(ids) == 2 + 3 * 2 * 2
    assert [of.config(params, 0).strength for params in of.grid()[:3]] == [0, 0, 1e-3]


def _strengths(trial: TrialConfig) -> dict[str, float]:
    """The strength that the optimizer gives each convolution of the backbone."""
    tasks = [task for task in TASKS if task.name in trial.tasks]
    model = build_model(trial, tasks)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, TASK_WEIGHTINGS[trial.task_weighting](tasks), trial)
    found: dict[str, float] = {}
    for group in optimizer.param_groups:
        if group.get("penalty") is not None:
            found |= {names[id(parameter)]: group["penalty"].strength for parameter in group["params"]}
    convolutions = {f"backbone.{n}.weight" for n, m in model.backbone.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(found) == convolutions
    return found


def test_each_stages_factor_reaches_its_convolutions() -> None:
    factors = (0.0, 0.5, 1.0, 4.0)
    params = {LAMBDA: 0.02} | dict(zip(STAGES, (0.001, 0.5, 1.0, 4.0), strict=True))
    open_stages = space(*(f"search_space.{name}=[1e-3, 10]" for name in STAGES))
    assert open_stages.config(params, 0).stage_factors == (0.001, 0.5, 1.0, 4.0)
    found = _strengths(config(strength=0.02, stage_factors=factors))
    for name, strength in found.items():
        stage = next((n for n in range(1, 5) if name.startswith(f"backbone.layer{n}.")), None)
        assert strength == pytest.approx(0.02 * (factors[stage - 1] if stage else 1.0)), name
    assert len(set(found.values())) == 4


def test_factors_of_1_leave_a_trials_id_as_it_was_before_there_were_any() -> None:
    old = {"tasks": ("segmentation", "depth"), "method_version": 1, "precision": "auto"}
    assert config(**old).trial_id == "263a951de978545a"
    assert config(**old, stage_factors=(1.0, 1.0, 1.0, 1.0)).trial_id == "263a951de978545a"
    assert config(**old, stage_factors=(1.0, 1.0, 1.0, 0.5)).trial_id != "263a951de978545a"


def test_a_recipe_of_dense_models_alone_leaves_no_lambda_to_search() -> None:
    with pytest.raises(BadInput, match=r"^search_space\.lambda = \[\]; allowed: the two positive ends"):
        make_space(load_recipe("nyuv2-small", [*PENALTY_ALONE, "lambdas=0"]), "made up")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search_space.lamda=1"], ["search_space: 'lamda'", "allowed: lambda, combination, lambda_stage1"]),
        (["search_space.lambda=1e-3"], ["search_space.lambda = [0.001]", "allowed: the two positive ends"]),
        (["search_space.lambda=[0, 1]"], ["search_space.lambda = [0, 1]", "allowed: the two positive ends"]),
        (["search_space.lambda=[-1, 1]"], ["search_space.lambda = [-1, 1]", "allowed"]),
        (["search_space.lambda=[]"], ["search_space.lambda = []", "allowed"]),
        (["search_space.lambda=[1e-3, inf]"], ["search_space.lambda = [0.001, inf]", "allowed"]),
        (["search_space.lambda=[1e-3, nan]"], ["search_space.lambda = [0.001, nan]", "allowed"]),
        (["search_space.lambda=[1e-3, 1e-3]"], ["search_space.lambda = [0.001, 0.001]", "allowed"]),
        (["search_space.lambda=high,low"], ["search_space.lambda = ['high', 'low']", "allowed"]),
        (["search_space.lr=1e-3"], ["search_space.lr = [0.001]", "allowed: two numbers"]),
        (["search_space.lr=[1e-2, 1e-3]"], ["search_space.lr", "the lower end of the range first"]),
        (["search_space.lr=[0, 1e-3]"], ["search_space.lr has 0.0", "allowed: greater than 0"]),
        (["search_space.lr=[1e-3, inf]"], ["search_space.lr", "allowed"]),
        (["search_space.label_smoothing=[0, 1]"], ["search_space.label_smoothing has 1.0", "less than 1"]),
        (["search_space.penalty=group_lasso,lasso"], ["search_space.penalty has 'lasso'", "allowed: 'group_lasso'"]),
        (["search_space.penalty=l1,l1"], ["search_space.penalty = ['l1', 'l1']", "allowed: each value once"]),
        (["search_space.penalty=[]"], ["search_space.penalty = []", "allowed"]),
        (["search_space.batch_size=8,1"], ["search_space.batch_size has 1", "allowed: "]),
        (["search_space.batch_size=8,many"], ["search_space.batch_size has 'many'", "allowed: "]),
        (["search_space.combination=depth,sound"], ["search_space.combination has 'sound'", "'normals'] joined by +"]),
        (["search_space.combination=depth,depth+depth"], ["search_space.combination has 'depth+depth'", "allowed"]),
        (["search_space.lambda_stage5=[0.1, 1]"], ["search_space: 'lambda_stage5'", "allowed"]),
        (["search_space.lambda_stage1=[-1, 1]"], ["search_space.lambda_stage1 = [-1, 1]", "allowed"]),
        (["search_space=3"], ["search_space = 3", "allowed"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_the_field(overrides: list[str], said: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        space(*overrides)
    for word in said:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
