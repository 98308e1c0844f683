"""Trials' configs in few bytes: Tune keeps half a dozen copies of each in its records of thousands of trials."""

import json

from mtl.config import TrialConfig


class Packing:
    """What a config has otherwise than `base`, as JSON, and the way back."""

    def __init__(self, base: TrialConfig | None) -> None:
        self._base = base.model_dump(mode="json") if base else {}

    def pack(self, config: TrialConfig) -> str:
        fields = config.model_dump(mode="json")
        return json.dumps(
            {name: value for name, value in fields.items() if name not in self._base or value != self._base[name]}
        )

    def unpack(self, packed: str) -> TrialConfig:
        return TrialConfig.model_validate(self._base | json.loads(packed))
