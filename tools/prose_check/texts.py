"""Reads the English out of a file: documents, docstrings, comments, test names, and texts for users and operators."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

CODE: Final = "Code"  # stands for a piece of code in a sentence

_HELP_KEYWORDS: Final = frozenset({"help", "short_help", "epilog", "description"})
_LOG_METHODS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2[^\n]*$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\([^)]*\)")
_MARKUP = re.compile(r"<[^>\n]+>|https?://\S+|\*\*|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|\[/?bold\]")
_MARKDOWN_BLOCK = re.compile(r"^[ \t]*(?:#+|[-*+]|\d+\.|>)(?=[ \t])|\|", re.MULTILINE)
_DOCTEST = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: .*)?$", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n[ \t]*\n")
_DIRECTIVE = re.compile(r"^\s*(?:type:|noqa\b|pragma:|pyright:|mypy:|ruff:|fmt:|!)")
_LUA_COMMENT = re.compile(r"^(?P<code>[^\n]*?)--(?!\[)[ \t]?(?P<text>[^\n]*)$", re.MULTILINE)


class Text(NamedTuple):
    """A piece of prose with its place and kind; a `¶` separates its paragraphs."""

    path: Path
    line: int
    kind: str
    text: str


def texts_of(path: Path) -> Iterator[Text]:
    """Return the prose of a file, by its kind; a file of another kind has none.

    Args:
        path: a Python, Lua or Markdown file.

    Raises:
        SyntaxError: a Python file cannot be parsed.

    """
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield Text(path, 1, "document", _markdown(source))
    elif path.suffix == ".py":
        yield from _python(path, source)
    elif path.suffix == ".lua":
        yield from _joined(path, _lua_comments(source))


def _blank(match: re.Match[str]) -> str:
    """Keep the lines of what is left out, so that the numbers of the lines after it stay right."""
    return "\n" * match[0].count("\n")


def _plain(text: str) -> str:
    """Replace code and mark-up, and mark the paragraphs."""
    text = _INLINE_CODE.sub(lambda match: CODE + _blank(match), text)
    text = _MARKUP.sub("", text)
    return _EMPTY_LINES.sub(lambda match: "\n¶" + match[0][1:], text)


def _markdown(source: str) -> str:
    text = _LINK.sub(lambda match: "]" + _blank(match), _FENCE.sub(_blank, source))
    text = _INLINE_CODE.sub(lambda match: CODE + _blank(match), text)
    return _plain(_MARKDOWN_BLOCK.sub(" ¶ ", text))


def _docstring(source: str) -> str:
    return _plain(_DOCTEST.sub("", _FENCE.sub(_blank, source)))


def _line_of(source: str, offset: int) -> int:
    return source.count("\n", 0, offset) + 1


def _joined(path: Path, comments: Iterator[tuple[int, str, str]]) -> Iterator[Text]:
    """Join comments on consecutive lines; a comment after code is a text on its own."""
    start, lines = 0, list[str]()
    for line, code, text in comments:
        if lines and (code.strip() or line != start + len(lines)):
            yield Text(path, start, "comment", _plain("\n".join(lines)))
            lines = []
        if _DIRECTIVE.match(text):
            continue
        if code.strip():
            yield Text(path, line, "comment", _plain(text))
            continue
        start = start if lines else line
        lines.append(text)
    if lines:
        yield Text(path, start, "comment", _plain("\n".join(lines)))


def _comments(source: str) -> Iterator[tuple[int, str, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.line[: token.start[1]], token.string.lstrip("#:").removeprefix(" ")


def _lua_comments(source: str) -> Iterator[tuple[int, str, str]]:
    for match in _LUA_COMMENT.finditer(source):
        yield _line_of(source, match.start()), match["code"], match["text"]


def _python(path: Path, source: str) -> Iterator[Text]:
    yield from _joined(path, _comments(source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(path, node)
            yield from _test_name(path, node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from _literals(path, "message", node.exc.args)
        elif isinstance(node, ast.Call):
            yield from _seen_by_users(path, node)


def _docstrings(path: Path, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Text]:
    """Yield the docstring, and the strings below the constants and fields that they describe."""
    for index, statement in enumerate(node.body):
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
            continue
        describes = index == 0 or isinstance(node.body[index - 1], ast.Assign | ast.AnnAssign)
        if describes and isinstance(statement.value.value, str):
            yield Text(path, statement.lineno, "docstring", _docstring(statement.value.value))


def _test_name(path: Path, node: ast.AST) -> Iterator[Text]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
        yield Text(path, node.lineno, "test name", node.name.removeprefix("test_").replace("_", " "))


def _seen_by_users(path: Path, call: ast.Call) -> Iterator[Text]:
    """Yield help texts, the events of logs, and the texts that an exception gives to its base class."""
    yield from _literals(path, "help", [word.value for word in call.keywords if word.arg in _HELP_KEYWORDS])
    match call.func:
        case ast.Attribute(attr=name) if name in _LOG_METHODS:
            yield from _literals(path, "log", call.args[:1])
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
            yield from _literals(path, "message", call.args[:1])
        case _:
            pass


def _literals(path: Path, kind: str, nodes: list[ast.expr]) -> Iterator[Text]:
    for node in nodes:
        text = _text_of(node)
        if " " in text.strip():
            yield Text(path, node.lineno, kind, _plain(text))


def _text_of(node: ast.expr) -> str:
    """Return a literal's text, with code in place of what an f-string inserts; "" of any other expression."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text_of(value) or CODE for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text_of(left) + _text_of(right)
        case ast.IfExp(body=body, orelse=orelse):
            return f"{_text_of(body)} ¶ {_text_of(orelse)}"
        case _:
            return ""
