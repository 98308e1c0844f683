"""The benchmark of feeding runs, and its parts say what they measured. No speed is asserted."""

import pytest
import torch

from benchmarks import feeding

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "ROUNDS", 1)


def test_both_ways_to_crop_are_timed() -> None:
    found = feeding.measure_crop(32, CPU, count=2)
    assert found["milliseconds_a_sample_by_products"] > 0
    assert found["milliseconds_a_sample_by_reading"] > 0


def test_the_share_of_both_networks_is_measured() -> None:
    shares = feeding.measure_shares(CPU, small=True)
    assert list(shares) == ["nyuv2-small", "resnet50 at 256 x 256"]
    assert all(one["network_share"] > 0 and one["milliseconds_a_step"] > 0 for one in shares.values())


@pytest.mark.parametrize("names", feeding.AUGMENTATIONS)
def test_the_peer_s_batches_are_ours_in_shape(names: tuple[str, ...]) -> None:
    split = feeding.frames(4, (32, 48))
    sample = feeding._Samples(split, names)[0]
    assert sample["image"].shape == (3, 32, 48)
    assert sample["image"].dtype == torch.float32
    assert sample["segmentation"].dtype == torch.uint8
    assert sample["normals"].shape == (3, 32, 48)
    feeding.batches_of(split, names, CPU, threads=2, size=2)()
