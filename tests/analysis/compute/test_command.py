"""The command that compacts a trial's model, as the report and the answer give it to be copied."""

from types import SimpleNamespace
from typing import Any

import pytest

from analysis.compute.summary import command


@pytest.mark.parametrize(
    ("recipe", "ending"),
    [
        ({"backbone": "resnet18"}, ""),
        ({"backbone": "timm:resnet50", "model": None}, ""),
        ({"backbone": "nets:Small"}, " --network nets:Small"),
        ({"backbone": None, "model": "nets:Whole"}, " --network nets:Whole"),
        ({}, ""),
    ],
)
def test_it_names_the_users_own_class(recipe: dict[str, Any], ending: str) -> None:
    sweep: Any = SimpleNamespace(info={"recipe": recipe}, model_path=lambda trial: f"my results/{trial}/model.pt")
    assert command(sweep, "abc") == f"parsimony compact 'my results/abc/model.pt'{ending}"
