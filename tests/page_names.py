"""What pages name: commands, options, targets, settings, metrics, refusals, operations, paths; what does not exist."""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer
from prometheus_client import Counter, Gauge, Histogram

from reservasi import metrics
from reservasi.cli import main
from reservasi.front.api.openapi import openapi_document
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.settings import Settings
from tests.pages import ROOT, shell_blocks, tokens

MAKEFILE = (ROOT / "Makefile").read_text()
ROOT_COMMAND: Any = typer.main.get_command(main.app)
URL = r"https?://|localhost:"
ADMIN_PATHS = {"/livez", "/readyz", "/metrics"}
OPTION = re.compile(r"--[a-z][a-z-]*")
ENDS = {";", "&&", "||", "|", "&", "(", ")", "()", "{", "}", "do", "done"}
REDIRECTIONS = {">", ">>", "<"}
OUR_ALIASES = {"as_admin"}  # deployment.md defines it: reservasi, with the owner's addresses
OF_OTHERS = {  # names of Redis, PostgreSQL and Prometheus, and of processes in metrics
    "aof_rewrite_in_progress",
    "down-after-milliseconds",
    "max_connections",
    "front-0",
    "gunicorn-0",
    "histogram_quantile",
    "pg_dump",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "verify-full",
}


def fences(page: str, kind: str) -> list[str]:
    """The blocks of code of that kind."""
    return [each.content for each in tokens(page) if each.type == "fence" and each.info == kind]


def spans(page: str) -> list[str]:
    """Everything that the text has as code."""
    inline = (child for each in tokens(page) for child in each.children or ())
    return [child.content for child in inline if child.type == "code_inline"]


def lines(shell: str) -> Iterator[list[str]]:
    """The simple commands of shell lines, without comments, assignments and redirections."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        skips = False
        for token in [*lexer, ";"]:
            if token in ENDS:
                if words:
                    yield words
                words = []
            elif token in REDIRECTIONS or skips:
                skips = not skips
            elif words or not re.fullmatch(r"[A-Za-z_]+=.*", token):
                words.append(token)


def resolve(words: list[str]) -> tuple[Any, list[str]] | None:
    """The command that words behind `reservasi` name, and what follows it; None where there is none."""
    command = ROOT_COMMAND
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return None
        _, command, words = command.resolve_command(command.context_class(command), words)
    return command, words


def every_command(group: Any = ROOT_COMMAND) -> Iterator[Any]:
    for name in list(group.commands):
        _, command, _ = group.resolve_command(group.context_class(group), [name])
        yield from every_command(command) if hasattr(command, "commands") else (command,)


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def wrong_in_call(words: list[str], *, is_complete: bool) -> str:
    """What is wrong with a call of `reservasi`; "" where nothing is. One that is mentioned need not be complete."""
    if words in ([], ["--help"]):
        return ""
    if (resolved := resolve(words)) is None:
        return f"no such command: {' '.join(words)}"
    command, arguments = resolved
    named = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    if unknown := named - options_of(command) - {"--help"}:
        return f"no such option of {' '.join(words)}: {', '.join(sorted(unknown))}"
    if is_complete and "--help" not in named:
        try:
            command.make_context("reservasi", list(arguments))
        except Exception as error:  # of whichever library the commands are made with
            return f"{' '.join(words)}: {getattr(error, 'message', error)}"
    return ""


def target_exists(name: str) -> bool:
    return re.search(rf"^{re.escape(name)}:", MAKEFILE, re.MULTILINE) is not None


def sources_of(module: str) -> list[Path]:
    """The files of a module of the load test, all of them where it is a package; none where there is none."""
    path = ROOT.joinpath(*module.split("."))
    return sorted(path.glob("*.py")) or [file for file in [path.with_suffix(".py")] if file.is_file()]


def wrong_options(files: list[Path], words: list[str]) -> str:
    text = "".join(file.read_text() for file in files)
    return ", ".join(word for word in words if OPTION.fullmatch(word) and f'"{word}"' not in text and word != "--help")


def wrong_in_make(words: list[str]) -> str:
    targets = [word for word in words[1:] if "=" not in word]
    if unknown := [name for name in targets if not target_exists(name)]:
        return f"no such target: {unknown[0]}"
    given = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    if unset := [name for name in given if f"$({name})" not in MAKEFILE]:
        return f"make knows no {unset[0]}"
    recipe = MAKEFILE.split(f"\n{targets[0]}:")[1].split("\n\n")[0] if targets else ""
    modules, locustfiles = re.findall(r"-m (loadtest[\w.]*)", recipe), re.findall(r"-f (\S+\.py)", recipe)
    arguments = shlex.split(given.get("ARGS", ""))
    if "HOST" in given:
        return wrong_in_locust(["-f", *locustfiles, *arguments])
    if targets == ["up"]:
        return wrong_in_call(["up", *arguments], is_complete=True)
    files = [file for module in modules for file in sources_of(module)]
    files += [below for module in modules for below in sources_of(module.rpartition(".")[0]) if "." in module[9:]]
    unknown_options = wrong_options(files, arguments) if modules else ""
    return f"make {targets[0]} has no {unknown_options}" if unknown_options else ""


def wrong_in_locust(words: list[str]) -> str:
    file = ROOT / words[words.index("-f") + 1]
    if not file.is_file():
        return f"no such file: {file}"
    (place,) = importlib.util.find_spec("locust").submodule_search_locations  # type: ignore[misc,union-attr]
    ours = [file, *file.parent.glob("*.py"), *(ROOT / "loadtest").rglob("locustfile.py")]
    return wrong_options([*ours, Path(place) / "argument_parser.py"], words)


def wrong_in_module(words: list[str]) -> str:
    module = words[words.index("-m") + 1]
    if not (files := sources_of(module)):
        return f"no such module: {module}"
    return wrong_options(files, words)


def wrong_in_line(words: list[str], *, is_complete: bool) -> str:
    """What is wrong with a simple command of ours; "" for other programs."""
    match Path(words[0]).name:
        case "reservasi" | "as_admin":  # the second: see OUR_ALIASES
            return wrong_in_call([word for word in words[1:] if word not in {"...", "$@"}], is_complete=is_complete)
        case "make" if len(words) > 1:
            return wrong_in_make(words)
        case "locust":
            return wrong_in_locust(words)
        case "python" if "-m" in words:
            return wrong_in_module(words)
        case first if not is_complete and first == words[0] and first in ROOT_COMMAND.commands:
            return wrong_in_call(words, is_complete=False) if words[-1].islower() else ""
        case _:
            return ""


@cache
def samples() -> frozenset[str]:
    """Every name that a scrape may show."""
    names: set[str] = set()
    for collector in vars(metrics).values():
        match collector:
            case Counter():
                names.add(f"{collector._name}_total")
            case Gauge():
                names.add(collector._name)
            case Histogram():
                names |= {f"{collector._name}{end}" for end in ("", "_bucket", "_sum", "_count")}
    return frozenset(names)


@cache
def our_text() -> str:
    """The sources and the shipped files."""
    files = [
        *(path for kind in ("py", "lua") for path in (ROOT / "reservasi").rglob(f"*.{kind}")),
        *(path for path in (ROOT / "config").rglob("*") if path.is_file()),
        *(ROOT / "loadtest").rglob("*.py"),
    ]
    return "\n".join(path.read_text() for path in files)


@cache
def our_words() -> frozenset[str]:
    """Texts, fields, arguments and variables in the sources and the shipped files."""
    word = r"[a-z]+(?:[_-][a-z0-9]+)+"
    groups = re.findall(rf"[\"']({word})[\"']|\b({word})\s*[:=]|\$({word})\b|^\s*({word}) \S", our_text(), re.MULTILINE)
    return frozenset(text for texts in groups for text in texts if text)


def wrong_names(page: str) -> Iterator[str]:
    """Settings, metrics, problem types and other names with several parts that the code does not know."""
    for name in re.findall(r"\bRESERVASI_([A-Z0-9_]+)", page):
        if name.lower() not in Settings.model_fields:
            yield f"no such setting: {name}"
    names = samples() | {*RUNTIME_ROLES.values(), "reservasi_crowd"}
    for name in re.findall(r"\breservasi_[a-z_]*[a-z]\b(?!\*)", page):
        if name not in names and not any(sample.startswith(name) and f"{name}_*" in page for sample in names):
            yield f"no such metric: {name}"
    for status, name in re.findall(r"\b([45]\d\d) `([a-z-]+)`", page):
        if name not in PROBLEM_TYPES or PROBLEM_TYPES[name].status != int(status):
            yield f"no such refusal: {status} {name}"
    for span in spans(page):
        if f'"{span}"' in our_text():
            continue
        for word in re.findall(r"(?<![\w.*$/-])[a-z]{2,}(?:[_-][a-z0-9]+)+(?![\w*/.-])", span):
            if word.startswith("reservasi") or word in OUR_ALIASES or " --" in span or f"--{word}" in span:
                continue
            if word not in OF_OTHERS and word not in our_words() and not target_exists(word):
                yield f"unknown name: {word}"


def wrong_paths(page: str) -> Iterator[str]:
    for path in re.findall(
        r"(?<![\w./-])(?:/opt/reservasi/)?((?:config|loadtest|reservasi|tests|docs)/[\w./-]*\w)", page
    ):
        if not (ROOT / path).exists() and not re.search(rf"\]\([^)]*{re.escape(path)}", page):
            yield f"no such path: {path}"


def wrong_calls(page: str) -> Iterator[str]:
    for block in shell_blocks(page):
        yield from (wrong_in_line(words, is_complete=True) for words in lines(block))
    for span in spans(page):
        setting = re.fullmatch(r"([a-z_]+) = (.+)", span)
        if setting and setting[1] in Settings.model_fields:
            yield wrong_settings(span)
        elif OPTION.match(span):
            options = options_everywhere()
            yield ", ".join(f"no such option: {word}" for word in OPTION.findall(span) if word not in options)
        elif not set(span) & set('{}()"<>|'):
            yield wrong_in_line(span.split(), is_complete=False)


@cache
def options_everywhere() -> frozenset[str]:
    ours = {option for command in every_command() for option in options_of(command)}
    return frozenset(ours | set(re.findall(r'"(--[a-z-]+)"', our_text())))


def wrong_settings(text: str) -> str:
    try:
        Settings(**tomllib.loads(text if '"' in text or re.search(r"= (\d|true|false|\[)", text) else _quoted(text)))
    except ValueError as error:
        return f"{text}: {error}"
    return ""


def _quoted(text: str) -> str:
    name, _, value = text.partition(" = ")
    return f'{name} = "{value}"'


@cache
def operations() -> dict[str, set[str]]:
    """Paths of the API with their methods."""
    return {path: {method.upper() for method in methods} for path, methods in openapi_document()["paths"].items()}


def wrong_operations(page: str) -> Iterator[str]:
    """Operations of the API, called or mentioned, and paths of the admin ports."""
    mentions = [(method or "", path) for method, path in re.findall(r"`(?:([A-Z]+) )?(/v1/[^\s`?]+)", page)]
    for block in shell_blocks(page):
        for words in lines(block):
            if words[0] == "curl":
                method = words[words.index("-X") + 1] if "-X" in words else "GET"
                mentions += [(method, re.sub(r"^(https?://)?[^/]*", "", word)) for word in words if re.match(URL, word)]
    for method, path in mentions:
        given = path.partition("?")[0].split("/")
        fits = [operation for operation in operations() if is_of(operation.split("/"), given)]
        if path not in ADMIN_PATHS and not any(method in operations()[operation] or not method for operation in fits):
            yield f"no such operation: {method} {path}"


def is_of(declared: list[str], given: list[str]) -> bool:
    return len(declared) == len(given) and all(
        one == other or one.startswith("{") for one, other in zip(declared, given, strict=True)
    )


def complaints(page: str) -> list[str]:
    texts = (*wrong_calls(page), *wrong_names(page), *wrong_paths(page), *wrong_operations(page))
    return [complaint for complaint in texts if complaint]
