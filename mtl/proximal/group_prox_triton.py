"""The group penalties' proximal step on CUDA: one program for each tile of neighbouring groups, in Triton.

This module is the device's code alone and imports triton; `mtl.proximal.triton_kernel` launches it. The mathematics is
that of `mtl.proximal.prox`, by the same secants from the left of the root, in float32 and in a fixed order of sums.
"""

import triton
import triton.language as tl

# Columns of the tables that the kernel reads.
LAYER_COLUMNS = 6  # weights, second moment, elements of a group, stride of rows, inner, index of the weight
TILE_COLUMNS = 3  # layer, first element in memory, groups


def group_prox(
    layers: tl.tensor,  # int64 (layers, LAYER_COLUMNS)
    tiles: tl.tensor,  # int64 (tiles, TILE_COLUMNS)
    root_sizes: tl.tensor,  # float32 (layers,)
    corrections: tl.tensor,  # float64 (weights,), Adam's bias corrections; not read in the Euclidean metric
    step_strength: tl.tensor,  # float32 (weights,), step size times strength
    eps: tl.tensor,
    element_share: tl.tensor,
    max_steps: tl.tensor,
    tolerance: tl.tensor,
    adaptive: tl.constexpr,
    sparse: tl.constexpr,
    neighbours: tl.constexpr,
    tile_elements: tl.constexpr,
    tile_groups: tl.constexpr,
    resident: tl.constexpr,
) -> None:
    """The proximal step of the groups of tile `program_id(0)`, in place; a strength of 0 changes nothing.

    A group has its elements in rows of `inner` that lie `stride` apart. A tile has tile_elements x tile_groups, with
    neighbours in memory along its last axis: groups if `neighbours`, which needs inner = 1, elements of a group if not.
    A `resident` tile holds whole groups in registers; another passes over its groups in chunks of tile_elements, which
    stay in the device's cache.
    """
    tile = tiles + tl.program_id(0) * 3
    layer = tl.load(tile)
    start = tl.load(tile + 1)
    groups = tl.load(tile + 2).to(tl.int32)
    row = layers + layer * 6
    x_at = tl.load(row).to(tl.pointer_type(tl.float32)) + start
    v_at = tl.load(row + 1).to(tl.pointer_type(tl.float32)) + start
    size = tl.load(row + 2).to(tl.int32)
    stride = tl.load(row + 3).to(tl.int32)
    inner = tl.load(row + 4).to(tl.int32)
    weight = tl.load(row + 5)
    strength = tl.load(step_strength + weight)
    if strength == 0:
        return
    threshold = strength * tl.load(root_sizes + layer)
    cut = strength * element_share
    if sparse:
        threshold = threshold * (1 - element_share)
    correction = 1.0
    if adaptive:
        correction = tl.load(corrections + weight).to(tl.float32)

    axis: tl.constexpr = 0 if neighbours else 1
    one = tl.arange(0, tile_elements)
    group = tl.arange(0, tile_groups)
    if neighbours:
        elements = tl.broadcast_to(one[:, None], (tile_elements, tile_groups))
        which = tl.broadcast_to(group[None, :], (tile_elements, tile_groups))
    else:
        elements = tl.broadcast_to(one[None, :], (tile_groups, tile_elements))
        which = tl.broadcast_to(group[:, None], (tile_groups, tile_elements))
    mine = which < groups
    zero = tl.zeros((tile_groups,), tl.float32)
    chunks = 1 if resident else tl.cdiv(size, tile_elements)

    # ||d x||, its largest term apart, so that no square leaves the range of float32; and the slope there.
    largest, mass, slope = zero, zero, zero
    x = tl.zeros_like(elements).to(tl.float32)
    a = x
    d = x + 1
    for chunk in range(chunks):
        e = elements + chunk * tile_elements
        places = e // inner * stride + e % inner + which * inner
        inside = mine & (e < size)
        x = tl.load(x_at + places, mask=inside, other=0.0)
        if adaptive:
            d = tl.sqrt_rn(tl.load(v_at + places, mask=inside, other=0.0) / correction) + eps
            # A threshold may be tiny and its group's metric large: with a = 0 nothing is shrunk.
            a = threshold / d
        if sparse:
            off = cut / d
            x = tl.where(x > off, x - off, tl.where(x < -off, x + off, x * 0))
        y = tl.abs(x * d)
        most = tl.maximum(largest, tl.max(y, axis=axis))
        unit = tl.where(most > 0, most, 1.0)
        shrink = largest / unit
        y = y / tl.expand_dims(unit, axis)
        y = y * y
        mass = mass * shrink * shrink + tl.sum(y, axis=axis)
        if adaptive:
            slope = slope * shrink * shrink + tl.sum(y * d, axis=axis)
        largest = most
    norm = largest * tl.sqrt_rn(mass)
    dead = norm <= threshold

    if adaptive:
        # The root of 1 / ||x / (a + theta)|| - 1, from 0 and the tangent's root there.
        theta = tl.where(dead, 1.0, (norm - threshold) / slope * mass)
        before = zero
        height_before = threshold / tl.where(norm > 0, norm, 1.0) - 1
        steps = 0
        moving = 1
        while (moving > 0) & (steps < max_steps):
            squares = zero
            spread = tl.expand_dims(theta, axis)
            if resident:
                u = x / (a + spread)
                squares = tl.sum(u * u, axis=axis)
            else:
                for chunk in range(chunks):
                    e = elements + chunk * tile_elements
                    places = e // inner * stride + e % inner + which * inner
                    inside = mine & (e < size)
                    x = tl.load(x_at + places, mask=inside, other=0.0)
                    d = tl.sqrt_rn(tl.load(v_at + places, mask=inside, other=0.0) / correction) + eps
                    if sparse:
                        off = cut / d
                        x = tl.where(x > off, x - off, tl.where(x < -off, x + off, x * 0))
                    u = x / (threshold / d + spread)
                    squares += tl.sum(u * u, axis=axis)
            height = 1 / tl.sqrt_rn(squares) - 1
            rise = height - height_before
            increment = tl.where((rise > 0) & (height < 0) & (dead == 0), -height * (theta - before) / rise, 0.0)
            before = theta
            height_before = height
            theta += increment
            moving = tl.max((increment > tolerance * theta).to(tl.int32), axis=0)
            steps += 1
    else:
        theta = 1 - threshold / tl.where(norm > 0, norm, 1.0)

    spread = tl.expand_dims(tl.where(dead, 1.0, theta), axis)
    gone = tl.expand_dims(dead, axis)
    for chunk in range(chunks):
        e = elements + chunk * tile_elements
        places = e // inner * stride + e % inner + which * inner
        inside = mine & (e < size)
        if not resident:
            x = tl.load(x_at + places, mask=inside, other=0.0)
            if adaptive:
                d = tl.sqrt_rn(tl.load(v_at + places, mask=inside, other=0.0) / correction) + eps
                a = threshold / d
            if sparse:
                off = cut / d
                x = tl.where(x > off, x - off, tl.where(x < -off, x + off, x * 0))
        z = x * (tl.div_rn(spread, a + spread) if adaptive else spread)
        # Adding 0 makes +0 of -0.
        tl.store(x_at + places, tl.where(gone, 0.0, z) + 0.0, mask=inside)


def compiled_or_interpreted() -> triton.runtime.JITFunction:
    """The kernel; in Triton's interpreter if TRITON_INTERPRET=1 now."""
    return triton.jit(group_prox)
