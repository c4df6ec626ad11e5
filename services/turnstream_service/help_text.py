"""Help texts from docstrings: paragraphs that the terminal wraps, and examples that keep their lines."""

from inspect import cleandoc
from typing import Final

import typer

KEPT: Final = "  "
"""How a line begins that keeps its line break, as those of examples."""


def reflow_help(app: typer.Typer) -> None:
    """Give each command and group of an application the help of its docstring, reflowed."""
    for command in app.registered_commands:
        if command.callback:
            command.help = reflow(command.callback.__doc__ or "")
    if app.registered_callback and app.registered_callback.callback:
        app.registered_callback.help = reflow(app.registered_callback.callback.__doc__ or "")
    for group in app.registered_groups:
        if group.typer_instance:
            reflow_help(group.typer_instance)


def reflow(docstring: str) -> str:
    """Return a docstring whose paragraphs are one line each."""
    return "\n\n".join(_reflow_paragraph(paragraph) for paragraph in cleandoc(docstring).split("\n\n"))


def _reflow_paragraph(paragraph: str) -> str:
    lines: list[str] = []
    for line in paragraph.splitlines():
        if not lines or line.startswith(KEPT) or lines[-1].startswith(KEPT):
            lines.append(line)
        else:
            lines[-1] = f"{lines[-1]} {line}"
    return "\n".join(_keep_indent(line) for line in lines)


def _keep_indent(line: str) -> str:
    """Return a line of which typer does not strip the indent, which it does if all lines have one."""
    return f"[dim]{KEPT}[/dim]{line.removeprefix(KEPT)}" if line.startswith(KEPT) else line
