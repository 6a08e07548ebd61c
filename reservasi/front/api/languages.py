"""The two languages of the service, and their negotiation."""

from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

Language: TypeAlias = Literal["id", "en"]

DEFAULT: Language = "id"
LANGUAGES: tuple[Language, ...] = ("id", "en")
HEADER_CHARS_MAX = 256  # a longer Accept-Language is not read
# `in` is the code that Java still sends for Indonesian
_TAGS: dict[str, Language] = {"id": "id", "in": "id", "en": "en"}


class Text(NamedTuple):
    """One text in both languages."""

    id: str
    en: str

    def to(self, language: Language) -> str:
        return self.en if language == "en" else self.id


@lru_cache(maxsize=512)
def negotiate(accept_language: str) -> Language:
    """The best language of an Accept-Language header (RFC 9110, section 12.5.4); by default Indonesian."""
    best, best_weight = DEFAULT, 0.0
    for item in accept_language[:HEADER_CHARS_MAX].split(","):
        tag, _, parameter = item.partition(";")
        language = _TAGS.get(tag.strip().lower().partition("-")[0])
        if language is None:
            continue
        weight = _weight(parameter)
        if weight > best_weight:
            best, best_weight = language, weight
    return best


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
