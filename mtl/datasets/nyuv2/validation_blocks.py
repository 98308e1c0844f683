"""How validation frames are taken from the official training frames, which come without a validation split."""

from collections.abc import Sequence

BLOCK = 16
EVERY = 5
# With fewer frames than this there is no fifth block.
FEWEST = BLOCK * (EVERY - 1) + 1


def split_off_validation(listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Training and validation frames of a training list: every fifth block of 16 validates.

    Blocks and not single frames, as neighbours in the list show the same room, and a network that has seen one would
    be tested on what it knows. Validation is empty where the list has fewer than `FEWEST` frames.
    """
    validates = [k // BLOCK % EVERY == EVERY - 1 for k in range(len(listed))]
    train = [frame for frame, held_out in zip(listed, validates, strict=True) if not held_out]
    return train, [frame for frame, held_out in zip(listed, validates, strict=True) if held_out]
