"""Whether a network can be made as small as asked."""

from mtl.errors import BadInput
from mtl.networks.smaller import ONE_CHANNEL, rounded_up
from mtl.selection.groups import ChannelGroups


def check_target(groups: ChannelGroups, target: float) -> None:
    """Raise BadInput where a share of the multiply-accumulates is less than what one channel in each group costs."""
    if (least := groups.smallest_macs() / groups.macs()) > target:
        raise BadInput(f"target_macs = {target:g}; allowed: {rounded_up(least):g} or more, what {ONE_CHANNEL} costs")
