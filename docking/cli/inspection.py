"""`portcall inspect`: shows an image, snapshot, capsule or module. See `docking.cli.describe`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agents.errors import FormatError, ModuleError
from docking.cli.asking import station_names
from docking.cli.describe import Described, code_of, describe
from docking.cli.output import plain, print_fields, print_json, size_text
from docking.cli.sources import about, image_of, read_file
from docking.cli.stacks import called_at, stack_lines


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--image", type=click.Path(path_type=Path), help="A snapshot's image or source, for names and values.")
@click.option("--wasm", is_flag=True, help="Show an interpreter's own functions, too.")
@click.option("--code", metavar="NAME", help="The code of a function of an image, or `all` of it, as text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: Path, image: Path | None, wasm: bool, code: str | None, as_json: bool) -> None:
    """Show what an image, snapshot or capsule holds.

    The stack of an agent in Python has its Python functions, with their lines and variables. Its image is that of its
    interpreter, so --image takes any script in its language.

    Nothing is run, and no signature is checked: that is what `portcall verify` does. With --code, a function is
    named by its name or index, and both its copies are shown.
    """
    data = read_file(file)
    try:
        if code is not None:
            click.echo("\n".join(code_of(data, code)))
            return
        described = describe(data, None if image is None else image_of(image), station_names)
    except (FormatError, ModuleError) as error:
        raise about(file, error) from error
    if as_json:
        print_json(described)
    else:
        print_described(described, wasm)


def print_described(described: Described, wasm: bool = False) -> None:
    """Print a description for people; `wasm`: with the functions of an interpreter."""
    sections = ("wasi", "python", "stack", "snapshot")
    # The way is for programs: people read it as the itinerary.
    print_fields(_fields({k: v for k, v in described.items() if k not in (*sections, "frames", "way")}))
    wasi, python, stack, inner = (described.get(name) for name in sections)
    if wasi is not None:
        click.echo("\nvirtual WASI")
        print_fields(_fields(wasi), indent=2)
    if python is not None:
        click.echo()
        if python["language"] == "python":
            click.echo("\n".join(stack_lines(python)))
            stack = stack if wasm else None
        else:
            click.echo(plain(python["note"]))
    if stack:
        _show_stack(stack, described["frames"])
        if "values" not in stack[0]:
            click.echo("  (--image, with its image or its source, shows names and values)")
    if inner is not None:
        click.echo()
        print_described(inner, wasm)


def _fields(described: Described) -> Iterator[tuple[str, object]]:
    for name, value in described.items():
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield (name if number == 0 else ""), _line(item)
        elif value is not None:
            yield name, _line(value)


def _line(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    words = []
    for name, item in value.items():
        if name in ("bytes", "changed", "compressed"):
            words.append(f"{size_text(item)} {name}" if name != "bytes" else size_text(item))
        elif name == "path":
            words.append(str(item))
        elif isinstance(item, list):
            words.append(f"{name}: {', '.join(_line(each) for each in item) or 'none'}")
        else:
            words.append(f"{name} {_line(item)}")
    return ", ".join(words)


def _show_stack(stack: list[Described], frames: int) -> None:
    click.echo(f"\nstack, innermost first ({frames} {'frame' if frames == 1 else 'frames'})")
    for number, frame in enumerate(stack):
        if "values" not in frame:
            where = f"function {frame['function']}, site {frame['site']}"
            click.echo(f"  {number}  {where}, {frame['bytes']} bytes")
            continue
        shown = str(number)
        doing = f"calls {plain(frame['calls'])}" if frame["kind"] == "call" else "at the head of a loop"
        for place in frame.get("inlined", ()):
            click.echo(f"  {shown}  {called_at(place)}, inlined")
            shown = " " * len(shown)
        click.echo(f"  {shown}  {called_at(frame)}, site {frame['site']}: {doing}")
        print_fields(((v["what"], f"{v['type']:<4}  {v['value']}") for v in frame["values"]), indent=7)
    if frames > len(stack):
        click.echo(f"  and {frames - len(stack)} more")
