"""docs/reference/problems.md, from the catalogue of problem types."""

from docs.generate.markdown import codes, document, table
from reservasi.front.api.declarations import COMMON_PROBLEMS
from reservasi.front.api.languages import Text
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.paths import PROBLEM_PATH
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.api.problem_type import MEDIA_TYPE, ProblemType

TITLE = "Problem types"
INTRODUCTION = f"""\
Every refusal has the media type `{MEDIA_TYPE}` (RFC 9457). Its `type` ends with one of the names below, its `title`,
`detail` and `next` are in the language that `Accept-Language` asks for, Indonesian when in doubt. `next` says what the
person can do now. A running service explains a type at `{PROBLEM_PATH}`.

A name in braces stands for a fact of the request that is refused. An answer may have a `detail` and `next` that fit its
request more closely, such as those to a join of a sold-out opening. [HTTP API](../http-api.md) shows requests and
answers."""
EVERY_OPERATION = "any operation"


def page() -> str:
    kinds = sorted(PROBLEM_TYPES.values(), key=lambda kind: (kind.status, kind.name))
    rows = [(str(kind.status), f"[`{kind.name}`](#{kind.name})", kind.title.en, kind.title.id) for kind in kinds]
    return document(
        TITLE,
        "reservasi/front/api/problem_catalogue.py",
        INTRODUCTION,
        table(("status:", "type", "title, English", "title, Indonesian"), rows),
        *map(section, kinds),
    )


def section(kind: ProblemType) -> str:
    """One type: when it occurs and what the person can do, in both languages."""
    facts = [f"Status {kind.status}."]
    if kind.retry:
        facts.append("`Retry-After` says when to ask again.")
    if kind.members:
        facts.append(f"It may carry {codes(kind.members)}.")
    facts.append(f"Answered by {where(kind)}.")
    texts: tuple[tuple[str, Text], ...] = (("title", kind.title), ("when", kind.detail), ("what to do", kind.next))
    rows = [(what, text.en, text.id) for what, text in texts]
    return "\n\n".join([f"## {kind.name}", " ".join(facts), table(("text", "English", "Indonesian"), rows)])


def where(kind: ProblemType) -> str:
    """The operations that declare it."""
    if kind in COMMON_PROBLEMS:
        return EVERY_OPERATION
    paths = [f"{each.method} {each.path}" for each in OPERATIONS if kind in each.problems]
    return codes(paths) if paths else EVERY_OPERATION
