"""The command that a search answers with: the trial that it trains is one of the proposal's."""

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.answer import format_answer
from search.cli import make_parser
from search.config import load_recipe
from search.lambda_search import Search, open_search
from search.proposals import Proposal
from search.search_command import _places
from search.sweep import open_sweep
from tests.test_search_space import fractions

SPACES: dict[str, list[str]] = {
    "lambda alone": [],
    "retrained": ["retraining=fine_tune"],
    "retraining open": ["retraining=none,scratch", "search_space.lr=[1e-3, 1e-2]"],
    "much open": [
        *("search_space.penalty=group_mcp,l1", "search_space.combination=segmentation+depth,normals", "lr=3e-3"),
        *(
            "search_space.lambda_stage2=[0.1, 0.5]",
            "search_space.batch_size=8,32",
            "search_space.retraining=none,scratch",
        ),
        *("search_space.label_smoothing=[0, 0.1]", "search_space.task_weighting=equal,dwa"),
    ],
}


@pytest.fixture(scope="module", params=SPACES)
def search(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, list[str]]:
    """A search that is only opened, and the words after `parsimony search` that ask for it."""
    words = ["rooms", "--storage", str(tmp_path_factory.mktemp("storage"))]
    words += [word for text in SPACES[request.param] for word in ("--set", text)]
    return open_search(load_recipe("rooms", SPACES[request.param]), words[2], "rooms", None, proposals=4), words


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_the_command_trains_the_proposals_best_trial(search: tuple[Search, list[str]], data: st.DataObject) -> None:
    opened, words = search
    params = data.draw(fractions(opened.space))
    configs = tuple(opened.space.configs(params))
    values = {config.trial_id: {"delta_m": -float(config.seed), "group_sparsity": 0.5} for config in configs}
    proposal = Proposal(0, params, configs, values=values, state="complete")
    options = make_parser().parse_args(["search", *words, "--trials", "4"])
    answer = format_answer(opened, [proposal], "rooms", _places(options))
    command = shlex.split(answer.rpartition(": ")[2])
    train = make_parser().parse_args(command[1:])
    sweep = open_sweep(load_recipe(train.recipe, train.set), train.storage, "rooms", train.data)
    assert [config.trial_id for config in sweep.configs] == [configs[0].trial_id], command
