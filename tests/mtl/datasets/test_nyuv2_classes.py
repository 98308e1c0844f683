"""The class tables of NYU-Depth-v2 against what is known of the published ones."""

import hashlib
from typing import Any

import numpy as np
import pytest

from mtl.datasets.nyuv2.classes import (
    FORTY,
    FORTY_OF_RAW,
    NAMED_RAW_IDS,
    RAW_IDS,
    THIRTEEN,
    THIRTEEN_OF_FORTY,
    choose_classes,
    regroup,
)
from mtl.datasets.nyuv2.dataset import FEWEST, split_off_validation
from mtl.errors import BadInput
from mtl.tasks import IGNORE


def test_names() -> None:
    assert len(FORTY) == len(set(FORTY)) == 40
    assert (FORTY[0], FORTY[21], FORTY[39]) == ("wall", "ceiling", "otherprop")
    assert len(THIRTEEN) == len(set(THIRTEEN)) == 13
    assert list(THIRTEEN) == sorted(THIRTEEN)  # the published order is that of the alphabet


def test_raw_ids_become_the_published_forty_classes() -> None:
    assert FORTY_OF_RAW.shape == (RAW_IDS + 1,)
    assert FORTY_OF_RAW[0] == IGNORE
    assert np.bincount(FORTY_OF_RAW[1:]).tolist() == [1] * 37 + [68, 82, 707]
    assert FORTY_OF_RAW[list(NAMED_RAW_IDS)].tolist() == list(range(37))
    published = {
        "wall": 21, "floor": 11, "bed": 157, "chair": 5, "sofa": 83, "television": 172, "person": 331,
        "otherstructure": 8, "otherfurniture": 12, "otherprop": 1,
    }  # fmt: skip
    assert {name: FORTY[FORTY_OF_RAW[raw]] for name, raw in published.items()} == {name: name for name in published}


def test_raw_table_is_the_published_one() -> None:
    # Of the 894 classes, counted from 1, that mapClass of classMapping40.mat lists for raw ids 1..894.
    digest = hashlib.sha256((FORTY_OF_RAW[1:] + 1).astype(np.uint8).tobytes()).hexdigest()
    assert digest == "9c75cdc1ff39748751966fe8d8493b1d2ca3acda9ec861b2f70f52221d65a7bd"


def test_thirteen_of_forty_are_the_published_ones() -> None:
    # class13Mapping.mat, counted from 1.
    published = [12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5]
    published += [7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7]
    assert THIRTEEN_OF_FORTY[:40].tolist() == [number - 1 for number in published]


def test_regroup() -> None:
    labels = np.array([[0, 39, IGNORE]], np.uint8)
    assert regroup(labels, 40, 40) is labels
    assert regroup(labels, 40, 13).tolist() == [[THIRTEEN.index("wall"), THIRTEEN.index("objects"), IGNORE]]


def test_chosen_classes() -> None:
    assert [choose_classes(40, None), choose_classes(13, None)] == [40, 13]
    assert [choose_classes(40, 13), choose_classes(40, 40), choose_classes(13, 13)] == [13, 40, 13]


@pytest.mark.parametrize("option", [20, 0, "13", 13.0, True, [40]])
def test_other_classes_are_refused(option: Any) -> None:
    with pytest.raises(BadInput, match=r"^dataset_options.classes: .*; allowed: 40, 13$") as caught:
        choose_classes(40, option)
    assert repr(option) in str(caught.value)


def test_forty_do_not_follow_from_thirteen() -> None:
    with pytest.raises(BadInput, match=r"^dataset_options.classes: 40; allowed: 13"):
        choose_classes(13, 40)


def test_every_fifth_block_of_sixteen_validates() -> None:
    listed = [str(k) for k in range(200)]
    train, val = split_off_validation(listed)
    assert val == [*listed[64:80], *listed[144:160]]
    assert sorted(train + val, key=int) == listed
    assert split_off_validation(listed[: FEWEST - 1])[1] == []
    assert split_off_validation(listed[:FEWEST])[1] == ["64"]
