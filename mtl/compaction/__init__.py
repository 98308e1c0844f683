"""Physically smaller models with the same outputs: what zeros allow is removed, exactly.

    compact(model, example_input)      the smaller network
    certify(model, compacted, batches) proof on real images that its outputs are the same
    save_compact, load_compact         files without pickled code
    build(plan)                        the same architecture with new weights

On the way: `trace` makes a program (`graph`) of the model, `fold` works batch norms in, `channels` finds what need not
be computed, `rewrite` leaves it out, `choice` measures, and `build` makes a module again.
"""

from mtl.compaction.build import build
from mtl.compaction.certificate import Certificate, certify
from mtl.compaction.compact import compact
from mtl.compaction.saving import load_compact, save_compact

__all__ = ["Certificate", "build", "certify", "compact", "load_compact", "save_compact"]
