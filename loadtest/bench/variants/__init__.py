"""What is measured. A further variant is one module here with a class like these, and one name in `COMPARED`."""

from loadtest.bench.variants.ours import Ours, OursRecorded
from loadtest.bench.variants.plpgsql_batches import PlpgsqlBatches
from loadtest.bench.variants.redis_rivals import Evalsha, Pipelined, PipelinedRecorded
from loadtest.bench.variants.variant import Bare, Variant

__all__ = ["COMPARED", "STRONG", "Bare", "Ours", "OursRecorded", "Variant"]

# In the order of a round, after the bare handler; `Ours` is one service that is measured twice.
COMPARED: tuple[type[Variant], ...] = (Ours, OursRecorded, Evalsha, Pipelined, PipelinedRecorded, PlpgsqlBatches)
STRONG = tuple(kind for kind in COMPARED if kind is not Evalsha)  # those whose order is not known beforehand
