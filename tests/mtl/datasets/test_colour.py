"""Colours change as torchvision changes them, image by image, and the hue turns about grey."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from mtl.datasets.batches.colour import BRIGHTNESS, YIQ, adjust_colour, jitter_colour


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 6, 9, generator=torch.Generator().manual_seed(0))


def adjusted(x: torch.Tensor, **factors: torch.Tensor) -> torch.Tensor:
    """`adjust_colour` with what is not named left as it is."""
    one = torch.ones(len(x))
    return adjust_colour(x, **{"brightness": one, "contrast": one, "saturation": one, "hue": 0 * one} | factors)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_image_is_changed_as_by_torchvision(name: str) -> None:
    factors = torch.tensor([0.0, 0.6, 1.0, 1.4, 2.0])
    adjust = getattr(reference, f"adjust_{name}")
    expected = torch.stack([adjust(image, float(factor)) for image, factor in zip(images(), factors, strict=True)])
    # torchvision's luma has 0.2989 where NTSC has 0.299
    torch.testing.assert_close(adjusted(images(), **{name: factors}), expected, rtol=0, atol=3e-4)


def test_one_change_follows_the_other() -> None:
    pale = 0.4 + 0.2 * images()  # nothing to clamp
    factors = torch.tensor([0.7, 0.8, 0.9, 1.1, 1.2])
    expected = []
    for image, factor in zip(pale, factors.tolist(), strict=True):
        bright = reference.adjust_brightness(image, factor)
        expected.append(reference.adjust_saturation(reference.adjust_contrast(bright, 1.5 - factor), factor))
    found = adjusted(pale, brightness=factors, contrast=1.5 - factors, saturation=factors)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=3e-4)


def test_a_turned_hue_keeps_the_luma_and_all_of_grey() -> None:
    pale = 0.4 + 0.2 * images()  # nothing to clamp
    turned = adjusted(pale, hue=torch.tensor([0.0, 0.6, math.pi, -0.6, 2 * math.pi]))
    luma = YIQ[0].view(1, 3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(dim=1), (pale * luma).sum(dim=1))
    chroma, chroma_before = (torch.einsum("ij,njhw->nihw", YIQ, x)[:, 1:] for x in (turned, pale))
    torch.testing.assert_close(chroma.norm(dim=1), chroma_before.norm(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chroma[2], -chroma_before[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(turned[[0, 4]], pale[[0, 4]], rtol=0, atol=1e-5)
    assert (turned[[1, 3]] - pale[[1, 3]]).abs().max() > 0.01
    grey = pale[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(adjusted(grey, hue=torch.linspace(-3, 3, 5)), grey, rtol=0, atol=1e-5)


def test_red_turns_towards_yellow_as_torchvisions_does() -> None:
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    for turned in (adjusted(red, hue=torch.tensor([math.pi / 6])), reference.adjust_hue(red, 1 / 12)):
        assert turned.flatten()[1] > turned.flatten()[2] + 0.1


def test_the_middle_of_the_draws_changes_nothing() -> None:
    torch.testing.assert_close(jitter_colour(images(), torch.full((5, 4), 0.5)), images(), rtol=0, atol=1e-5)


def test_the_ends_of_the_draws_are_the_strengths() -> None:
    dim = 0.5 * images()
    for end, factor in ((0.0, 1 - BRIGHTNESS), (1.0, 1 + BRIGHTNESS)):
        draws = torch.full((5, 4), 0.5)
        draws[:, 0] = end
        torch.testing.assert_close(jitter_colour(dim, draws), dim * factor, rtol=0, atol=1e-5)


def test_results_are_images_each_of_its_own_draws() -> None:
    draws = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
    changed = jitter_colour(images(), draws)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert changed.is_contiguous(memory_format=torch.channels_last)
    for index in range(5):
        alone = jitter_colour(images()[index : index + 1], draws[index : index + 1])
        torch.testing.assert_close(changed[index : index + 1], alone)
        assert (alone - images()[index : index + 1]).abs().max() > 0.01
