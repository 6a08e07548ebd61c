"""Timers as they are stored: one text each, so that a quota's stand together, the earliest first.

A quota's number in six hexadecimal digits, a time in eleven (until the year 2527), then what it is for: the id of a
hold, or "+<seq>:<places>" for places on their way back. `timer_of` in `lua/shared.lua` writes them.
"""

from collections.abc import Iterable, Mapping

NUMBER_DIGITS = 6
TIME_DIGITS = 11
HEAD = NUMBER_DIGITS + TIME_DIGITS


def encode_timer(number: int, at_ms: int, what: str) -> str:
    """A timer's text."""
    return f"{number:0{NUMBER_DIGITS}x}{at_ms:0{TIME_DIGITS}x}{what}"


def decode_timers(stored: Iterable[bytes], names: Mapping[int, str]) -> dict[str, dict[str, int]]:
    """What is due when, in milliseconds, by quota: from texts in their order.

    `names` has the quotas by their numbers; a number that it lacks stands for itself, as it is written.
    """
    found: dict[str, dict[str, int]] = {}
    number = ""
    timers: dict[str, int] = {}
    for text in stored:
        timer = text.decode()
        if timer[:NUMBER_DIGITS] != number:
            number = timer[:NUMBER_DIGITS]
            timers = found.setdefault(names.get(int(number, 16), number), {})
        timers[timer[HEAD:]] = int(timer[NUMBER_DIGITS:HEAD], 16)
    return found
