"""Entity tags of conditional requests (RFC 9110, section 8.8.3)."""

import re

_ENTITY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')


def matches(header: str, etag: str) -> bool:
    """Whether If-None-Match names the entity tag (weak comparison, RFC 9110 section 13.1.2)."""
    header = header.strip()
    if header in ("*", etag):
        return True
    return etag.strip('"') in _ENTITY_TAG.findall(header)


def strong_tags(header: str) -> list[str]:
    """The strong entity tags of an If-Match header, without their quotes."""
    return [tag.group(1) for tag in _ENTITY_TAG.finditer(header) if not tag.group(0).startswith("W/")]
