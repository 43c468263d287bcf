"""Writes the pages that come from the code, while mkdocs builds: commands, host imports, errors, changelog.

Not a page itself, and nothing that needs to be kept in step by hand: what it writes is read from the very
tables and classes that the program uses. Each function below makes one page.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# Folder -> title, and the pages that come first, in the order of reading.
SECTIONS: dict[str, tuple[str, list[str]]] = {
    "tutorial": ("Tutorial", ["first-agent", "first-station", "a-working-day", "first-lesson"]),
    "lessons": (
        "Lessons",
        ["index", "loop", "weak", "trust", "agent", "station", "crash", "copies", "laptop", "exercises"],
    ),
    "how-to": ("How to", []),
    "reference": ("Reference", ["commands", "api-portcall", "api-agents", "api-docking", "ways", "abi", "policy"]),
    "topics": (
        "Topics",
        ["architecture", "continuations", "same-result", "trust", "handoff", "attacks", "performance", "others"],
    ),
    "adr": ("Decisions", ["index"]),
}
COMMANDS_HEAD = """# Commands

Errors go to stderr: a sentence that says what to do, and an exit code that is not 0.

| exit code | when |
|---|---|
| 0 | done |
| 1 | it could not be done; of `verify`, and `trail --verify`: something does not hold |
| 2 | the command was used wrongly |
| 125 | `run`: the agent trapped, or used up what it may; else the exit code is the agent's own |
| 130 | interrupted, by Ctrl-C |

| variable | says |
|---|---|
| `PORTCALL_KEYS` | the folder of your keys |
| `PORTCALL_RUNNING` | the folder in which stations of yours that run are noted, and where commands look for them |
| `PORTCALL_NODE` | the program `node` for the engine v8, instead of the one that is found |
| `PORTCALL_DEBUG` | anything: errors of Portcall end with a traceback |
| `XDG_CACHE_HOME` | where the folder `portcall` with packed and compiled code is; by default `~/.cache` |

The tab key completes commands, options, and the names of keys, stations and agents, after one line in the start-up file
of the shell:

| shell | file | line |
|---|---|---|
| bash | `~/.bashrc` | `eval "$(_PORTCALL_COMPLETE=bash_source portcall)"` |
| zsh | `~/.zshrc` | `eval "$(_PORTCALL_COMPLETE=zsh_source portcall)"` |
| fish | `~/.config/fish/config.fish` | `_PORTCALL_COMPLETE=fish_source portcall | source` |
"""
HANDOFF_HEAD = """# Handoff

The protocol that moves one agent from a source to a destination. Both sides are tables; this page is written
from them. An event that is not in a state's rows is late, doubled or none of its business: it is ignored, and
the state stays. Why it is so is told in [its topic](../topics/handoff.md).
"""
POLICY_HEAD = """# The policy file

Whom a station lets in, what they may do there, how much of it, and when the station is too busy. It is TOML:
`portcall station --policy FILE`, or `docking.read_policy(text)`; in Python, `docking.Policy(...)` has the same fields.
Every table and every word may be left out. Of those in `[limits]`, `[station]` and `[wasi]`, the values shown here hold
then; an `[[owner]]` needs its key, and a directory its path.

Without a file, `portcall station` lets in the agents of its user's own keys; with an empty one, nobody. A word that is
not known is an error, which names the file and the line: it may be a misspelt limit.

```toml
"""
POLICY_END = """```

An agent may do what its owner's permit *and* this policy allow. The permit is signed when the agent is launched:
`portcall launch --permit allow=service:thermometer.read --permit memory=16MiB`. The names of capabilities are those of
the [calls](abi.md), and those that services have where they are offered.

A newcomer that is not let in is refused with a code and a sentence: `owner-unknown` where no rule names its owner,
`capability` where its permit insists on what the policy does not grant, `too-large`, `busy`. All codes are on the page
about [attacks](../topics/attacks.md).
"""
DECISIONS_HEAD = """# Decisions

Where a choice was not obvious, or where the code departs from what one would expect: what was decided, and why.

"""
ERRORS_HEAD = """# Errors

What a caller of the Python interface may catch. A trap, a used-up budget or a refusal is not an error: it is
a value that `agents.run` or the station returns.
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Makes the contents (an mkdocs event): the sections in their order, in each its pages."""
    sys.path[:0] = [str(ROOT)]  # mkdocs loads this file by its path alone
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | set(PAGES)
    contents: list[Any] = ["index.md"]
    for folder, (title, first) in SECTIONS.items():
        known = [f"{folder}/{name}.md" for name in first]
        others = sorted(uri for uri in written if uri.startswith(f"{folder}/") and uri not in known)
        pages = [uri for uri in known if uri in written] + others
        if pages:
            contents.append({title: [{heading(uri): uri} for uri in pages]})
    config.nav = [*contents, {heading("glossary.md"): "glossary.md"}, {heading("changelog.md"): "changelog.md"}]
    return config


def heading(uri: str) -> str:
    """The title of a page, which may have comments above it."""
    text = PAGES[uri]() if uri in PAGES else (DOCS / uri).read_text(encoding="utf-8")
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return uri if found is None else found[1].replace("`", "")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to the site (an mkdocs event)."""
    from mkdocs.structure.files import File

    for uri, page in PAGES.items():
        files.append(File.generated(config, uri, content=page()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts drawings where a page asks for them (an mkdocs event): in the page itself, so that they have its colours."""
    from docs import railway

    drawn = markdown.replace("<!-- railway -->", railway.draw())
    return re.sub(r"<!-- drawing: ([\w-]+) -->", lambda match: drawing(match[1]), drawn)


def drawing(name: str) -> str:
    """A drawing of `docs/assets`, without the colours that it has where it stands alone, as in the README."""
    text = (DOCS / "assets" / f"{name}.svg").read_text(encoding="utf-8")
    uncoloured = re.sub(r"<style>.*?</style>\n", "", text)
    return f'<div class="drawing">\n{uncoloured}</div>'


def commands_page() -> str:
    """`reference/commands.md`: the help of each command, from click."""
    from docking.cli.group import portcall

    root = portcall.context_class(portcall, info_name="portcall", terminal_width=100, max_content_width=100)
    return "\n".join([COMMANDS_HEAD, *_help_of_all(root)])


def _help_of_all(context: click.Context) -> list[str]:
    """The help of a command and of all below it, a heading each."""
    command = context.command
    parts = [f"## {context.command_path}\n", f"```text\n{context.get_help()}\n```\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            parts += _help_of_all(below.context_class(below, parent=context, info_name=name))
    return parts


def api_page(title: str, *modules: str) -> str:
    """A page of the Python interface: each public name of the modules, from its docstring."""
    parts = [f"# {title}\n"]
    for module in modules:
        parts += [_documentation(module), ""]
        for name, where in public_names(module):
            parts.append(f"::: {where}\n    options:\n      heading: '{module}.{name}'\n      toc_label: '{name}'\n")
    return "\n".join(parts)


def _documentation(module: str) -> str:
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return f"## The module {module} {{ #the-module-{module.replace('.', '-')} }}\n\n{text}\n"


def public_names(module: str) -> list[tuple[str, str]]:
    """The public names of a module that are no modules, each with the place where it is written."""
    found = importlib.import_module(module)
    homes = {name: home for home, names in getattr(found, "_HOMES", {}).items() for name in names}
    names = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module
    ]
    places = []
    for name in names:
        value = getattr(found, name)
        if inspect.ismodule(value):
            continue
        home = homes.get(name, "")
        if not home:
            own = (
                inspect.isclass(value) or inspect.isroutine(value)
            ) and value.__name__ == name  # else another name of it
            written = getattr(value, "__module__", "") if own else ""
            home = written if written.partition(".")[0] in ("agents", "docking", "portcall") else module
        elif not home.startswith(("agents.", "docking.")):
            home = f"{module}.{home}"
        places.append((name, f"{home}.{name}"))
    return places


def errors_page() -> str:
    """`reference/errors.md`: the errors of both packages and their meanings, from the classes."""
    import agents.errors
    import docking.errors

    parts = [ERRORS_HEAD]
    for module in (agents.errors, docking.errors):
        parts.append(f"## {module.__name__}\n")
        for found in _errors(module):
            below = ", ".join(f"`{base.__name__}`" for base in found.__bases__)
            parts.append(f"`{found.__name__}`, below {below}\n:   {_first_paragraph(found)}\n")
    return "\n".join(parts)


def _errors(module: ModuleType) -> list[type[Exception]]:
    classes = [found for found in vars(module).values() if inspect.isclass(found)]
    return [each for each in classes if issubclass(each, Exception) and each.__module__ == module.__name__]


def _first_paragraph(documented: object) -> str:
    return (inspect.getdoc(documented) or "").split("\n\n")[0].replace("\n", " ")


def handoff_page() -> str:
    """`reference/handoff.md`: the two transition tables of the protocol, drawn and written out."""
    from docking.handoff import messages, states
    from docs import statechart

    tables: dict[str, Mapping[Any, Mapping[Any, tuple[Any, str]]]] = {
        "source": states.SOURCE,
        "destination": states.DESTINATION,
    }
    parts = [HANDOFF_HEAD]
    for side, table in tables.items():
        steps = {state.name: {e.value: row for e, row in rows.items()} for state, rows in table.items()}
        chart = {state: {e: after.name for e, (after, _) in row.items()} for state, row in steps.items()}
        parts += [f"## The {side}\n", statechart.draw(chart, f"states of the {side}"), ""]
        parts += ["| state | event | next state | step |", "| --- | --- | --- | --- |"]
        for state, row in steps.items():
            for event, (after, step) in row.items():
                parts.append(f"| {state} | {event} | {after.name} | `{step}` |")
        parts.append("")
    parts.append("## Messages\n")
    for found in vars(messages).values():
        if inspect.isclass(found) and found.__module__ == messages.__name__ and attrs.has(found):
            fields = ", ".join(f"`{field.name}`" for field in attrs.fields(found))
            parts.append(f"`{found.__name__}`: {fields}\n:   {_first_paragraph(found)}\n")
    return "\n".join(parts)


def policy_page() -> str:
    """`reference/policy.md`: the file that is shown where it is read."""
    import docking.trust.policy

    lines = (inspect.getdoc(docking.trust.policy) or "").splitlines()
    shown = [line[4:] for line in lines if line.startswith("    ") or not line]
    return POLICY_HEAD + "\n".join(shown).strip("\n") + "\n" + POLICY_END


def decisions_page() -> str:
    """`adr/index.md`: a line for each decision, from its heading."""
    lines = []
    for path in sorted((DOCS / "adr").glob("*.md")):
        heading = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"- [{heading}]({path.name})\n")
    return DECISIONS_HEAD + "".join(lines)


def changelog_page() -> str:
    """`changelog.md`: the file of the repository."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


API: dict[str, tuple[str, tuple[str, ...]]] = {
    "reference/api-portcall.md": ("Python: in an agent", ("portcall",)),
    "reference/api-agents.md": ("Python: the package agents", ("agents", "agents.waits", "agents.testing")),
    "reference/api-docking.md": (
        "Python: the package docking",
        ("docking", "docking.keys", "docking.itinerary", "docking.testing", "docking.mec"),
    ),
}
PAGES: dict[str, Callable[[], str]] = {
    **{uri: functools.partial(api_page, title, *modules) for uri, (title, modules) in API.items()},
    "reference/commands.md": commands_page,
    "reference/errors.md": errors_page,
    "reference/handoff.md": handoff_page,
    "reference/policy.md": policy_page,
    "adr/index.md": decisions_page,
    "changelog.md": changelog_page,
}
