"""What the recorder publishes of a program, as JSON: it is stored in the ledger, and sent to every front."""

import msgspec


class RecordedWord(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded position and its epochs, as stored."""

    epoch: int
    seq: int
    # each of the latest epochs and the last seq before it, ascending
    lineage: tuple[tuple[int, int], ...] = msgspec.field(name="epochs")


class RecordedMessage(RecordedWord, frozen=True, kw_only=True):
    """A recorded word with the changes of the dead letters, as it is sent to the fronts."""

    dead: tuple[str, ...] = ()  # reservations with a change that could not be recorded
    revived: tuple[str, ...] = ()  # reservations that have none any more


encode = msgspec.json.Encoder().encode
decode_word = msgspec.json.Decoder(RecordedWord).decode
decode_message = msgspec.json.Decoder(RecordedMessage).decode
