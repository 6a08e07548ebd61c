"""Finds every deviation of a program file's tables from the program's types, not only the first."""

import datetime as dt
import difflib
import typing
from collections.abc import Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, TypeAlias

import msgspec

from reservasi.programs.program import FOR_PEOPLE
from reservasi.tidying import tidy_line

Fault: TypeAlias = tuple[str, str]  # path; error, with the allowed values

_SHOWN_MAX = 60  # characters of a wrong value that a message repeats


def tidied(value: Any, expected: Any) -> Any:
    """`value`, as read by `tomllib`, with each of its texts `FOR_PEOPLE` tidied; a wrong part is returned unchanged.

    A union of tables has no such text.
    """
    plain, meta = _unwrap(expected)
    if isinstance(value, str) and meta is not None and meta.extra == FOR_PEOPLE:
        return tidy_line(value)
    if isinstance(value, dict) and _is_struct(plain):
        types = typing.get_type_hints(plain, include_extras=True)
        return {key: tidied(item, types.get(key)) for key, item in value.items()}
    if isinstance(value, list) and typing.get_origin(plain) is tuple:
        return [tidied(item, typing.get_args(plain)[0]) for item in value]
    return value


def faults(value: object, expected: Any, path: str) -> Iterator[Fault]:
    """The deviations of `value`, as read by `tomllib`, from the type `expected`."""
    plain, meta = _unwrap(expected)
    if isinstance(plain, tuple):
        yield from _choice_faults(value, plain, path)
    elif _is_struct(plain):
        yield from _table_faults(value, plain, path)
    elif typing.get_origin(plain) is tuple:
        yield from _array_faults(value, typing.get_args(plain)[0], meta, path)
    else:
        yield from _leaf_faults(value, plain, expected, meta, path)


def shown(value: object) -> str:
    """A wrong value, shortened for a message."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def _unwrap(expected: Any) -> tuple[Any, msgspec.Meta | None]:
    """The type without `None` (TOML has no null) and its limits; a union of tables becomes a tuple."""
    if typing.get_origin(expected) in (typing.Union, UnionType):
        kinds = tuple(kind for kind in typing.get_args(expected) if kind is not NoneType)
        return _unwrap(kinds[0]) if len(kinds) == 1 else (kinds, None)
    if typing.get_origin(expected) is Annotated:
        plain, *metas = typing.get_args(expected)
        return plain, next((meta for meta in metas if isinstance(meta, msgspec.Meta)), None)
    return expected, None


def _is_struct(plain: Any) -> bool:
    return isinstance(plain, type) and issubclass(plain, msgspec.Struct)


def _choice_faults(value: object, kinds: tuple[Any, ...], path: str) -> Iterator[Fault]:
    """Checks a table whose tag names one of several types."""
    tag_field = str(kinds[0].__struct_config__.tag_field)
    by_tag = {kind.__struct_config__.tag: kind for kind in kinds}
    if not isinstance(value, dict):
        yield path, f"must be a table, not {shown(value)}"
    elif tag_field not in value:
        yield f"{path}.{tag_field}", f"is missing; one of {', '.join(by_tag)}"
    elif not isinstance(value[tag_field], str) or value[tag_field] not in by_tag:
        yield f"{path}.{tag_field}", f"{shown(value[tag_field])} is unknown; one of {', '.join(by_tag)}"
    else:
        rest = {key: item for key, item in value.items() if key != tag_field}
        yield from _table_faults(rest, by_tag[value[tag_field]], path)


def _table_faults(value: object, struct: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield path, f"must be a table, not {shown(value)}"
        return
    prefix = f"{path}." if path else ""
    types = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in value:
            yield f"{prefix}{field.name}", "is missing"
    for key, item in value.items():
        if key in types:
            yield from faults(item, types[key], f"{prefix}{key}")
        else:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed here: {',  '.join(types)}"
            yield f"{prefix}{key}", f"is unknown; {hint}"


def _array_faults(value: object, item_type: Any, meta: msgspec.Meta | None, path: str) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield path, f"must be an array, not {shown(value)}"
        return
    if meta is not None and not (meta.min_length or 0) <= len(value) <= (meta.max_length or len(value)):
        yield path, f"has {len(value)} items; {meta.min_length or 0} to {meta.max_length} are allowed"
        return
    for number, item in enumerate(value):
        yield from faults(item, item_type, f"{path}[{number}]")


def _leaf_faults(value: object, plain: Any, expected: Any, meta: msgspec.Meta | None, path: str) -> Iterator[Fault]:
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        yield path, f"{shown(value)} is not allowed: {_allowed(plain, meta, error)}"


def _allowed(plain: Any, meta: msgspec.Meta | None, error: msgspec.ValidationError) -> str:
    if isinstance(plain, type) and issubclass(plain, Enum):
        return f"one of {', '.join(str(member.value) for member in plain)}"
    if meta is not None and meta.description:
        return meta.description
    if meta is not None and meta.ge is not None and meta.le is not None:
        kind = "a whole number" if plain is int else "a number"
        return f"{kind} from {meta.ge} to {meta.le}"
    if plain is dt.date:
        return 'a date, such as 2026-12-24 or "2026-12-24"'
    return str(error).lower().replace("`", "")
