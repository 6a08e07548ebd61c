"""The reason of a change, as free text: tidied, bounded, and without a person's number."""

import re

from reservasi.model import REASON_CHARS_MAX
from reservasi.tidying import name_character, tidy_line

_NIK = re.compile(r"\d(?:[ .\-]?\d){15}")


class ReasonRefused(ValueError):
    """A reason that cannot be stored; `code` names the fault, `character` the first wrong character."""

    def __init__(self, code: str, character: str = "") -> None:
        super().__init__(code)
        self.code, self.character = code, character


def tidy_reason(words: str) -> str:
    """The reason with single spaces, as it is journaled; "" is none.

    Raises:
        ReasonRefused: `reason-length`, `reason-characters` (they cannot be printed), or `reason-nik` (sixteen digits: a
            reason is journaled unencrypted, where no NIK may be).
    """
    reason = " ".join(tidy_line(words).split())
    if len(reason) > REASON_CHARS_MAX:
        raise ReasonRefused("reason-length")
    unusable = next((each for each in reason if not each.isprintable()), None)
    if unusable is not None:
        raise ReasonRefused("reason-characters", name_character(unusable))
    if _NIK.search(reason):
        raise ReasonRefused("reason-nik")
    return reason
