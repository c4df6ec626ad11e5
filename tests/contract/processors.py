"""Applies a partition's commands, without a worker around it."""

from functools import partial

from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.catalogue import default_catalogue
from turnstream.ports import Backend, PartitionState

MAX_BYTES = 1024 * 1024


def processor_over(backend: Backend, state: PartitionState, cached: int) -> PartitionProcessor:
    """Start at a partition's cursor, as its owner; it is the only one of its deployment."""
    intake = CommandDecoder(0, 1, MAX_BYTES, partial(backend.channels.is_reply_channel, 0))
    answers = QueryHandler(backend.reader, 1)
    memory = OwnerMemory.empty(backend.quarantine, 0, cached, ParkingLimits())
    return PartitionProcessor(state, intake, backend.store, answers, default_catalogue(), memory)
