"""The structure of a problem type."""

import msgspec

from reservasi.front.api.languages import Text

MEDIA_TYPE = "application/problem+json"


class ProblemType(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of refusal."""

    name: str  # the last part of the type URI
    status: int  # HTTP status
    members: tuple[str, ...] = ()  # possible extension members, by their names in `bodies.ProblemBody`
    title: Text
    detail: Text  # what happened; placeholders in braces are filled from the request
    next: Text  # what the person can do now
    retry: bool = False  # whether a jittered Retry-After says when to try again

    def __hash__(self) -> int:
        return hash(self.name)
