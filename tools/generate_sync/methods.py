"""The rules of the sync client: the sync counterpart of each shape of method of the async one."""

import ast
from dataclasses import dataclass, field

from tools.generate_sync.docstrings import Docstrings
from tools.generate_sync.signatures import SYNC_CLASSES, Translation, forwarded, handlers, passed
from tools.generate_sync.sources import Function, Import, Member, Source

SPECIAL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
CLOSES = "aclose"
TARGET = "self._target"


@dataclass(frozen=True)
class ClassContext:
    """The class that is generated.

    Attributes:
        async_name: its async class, as sync modules import it.
        target: the same with its type parameters.
        opens: whether it is a client.
        docstrings: the edits of its docstrings.
        imports: the imports that it needs, as they are found.

    """

    async_name: str
    target: str
    opens: bool
    docstrings: Docstrings
    imports: set[Import] = field(default_factory=set[Import])


def sync_method(member: Member, context: ClassContext) -> ast.FunctionDef | None:
    """Return the sync counterpart of a method; `None` if it needs none.

    Raises:
        UnknownShape: there is no rule for the method.

    """
    source, function = member
    if function.name == "__await__":
        _check_awaits_method(source, function)
        return None
    translation = Translation(source, context.imports)
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    if function.returns is None:
        source.refuse(function, f"{function.name} has no return annotation")
    result = translation.of(function.returns) if decorators != ["classmethod"] else ast.Name("Self")
    (method,) = ast.parse(f"def {_name(source, function)}(): ...").body
    if not isinstance(method, ast.FunctionDef):
        raise TypeError
    method.args = translation.arguments(function.args)
    method.body = _body(member, context, decorators)
    method.decorator_list = [translation.of(decorator) for decorator in function.decorator_list]
    method.returns = result
    return method


def wrapped(source: Source, expression: str, annotation: ast.expr) -> str:
    """Return an expression whose value is of a sync class if the annotation names a class of the plan.

    Raises:
        UnknownShape: the class is a part of an annotation other than `list[…]`.

    """
    match annotation:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)) if _is_planned(source, name):
            return f"{name}(self._portal, {expression})"
        case ast.Subscript(value=ast.Name(id="list"), slice=ast.Name(id=name)) if _is_planned(source, name):
            return f"[{name}(self._portal, each) for each in {expression}]"
        case _:
            if inner := _planned_name(source, annotation):
                source.refuse(annotation, f"there is no rule for {inner} inside of {ast.unparse(annotation)}")
            return expression


def _name(source: Source, function: Function) -> str:
    if function.name == CLOSES:
        return "close"
    if function.name.startswith("__") and function.name not in {*SPECIAL, "__repr__"}:
        source.refuse(function, f"there is no rule for {function.name}")
    return SPECIAL.get(function.name, function.name)


def _body(member: Member, context: ClassContext, decorators: list[str]) -> list[ast.stmt]:
    source, function = member
    if decorators == ["overload"]:
        return [ast.Expr(ast.Constant(...))]
    docstring = context.docstrings.edited(function, source)
    return [docstring, *ast.parse(_code(member, context, decorators)).body]


def _code(member: Member, context: ClassContext, decorators: list[str]) -> str:
    source, function = member
    match decorators:
        case ["classmethod"]:
            return _opening(member, context)
        case ["property"]:
            return f"return {wrapped(source, f'{TARGET}.{function.name}', _annotation(function))}"
        case []:
            pass
        case _:
            source.refuse(function, f"there is no rule for the decorators {', '.join(decorators)}")
    if function.name in SPECIAL:
        return _special(function)
    if _is_iterator(_annotation(function)):
        if isinstance(function, ast.AsyncFunctionDef) and not any(isinstance(n, ast.Yield) for n in ast.walk(function)):
            source.refuse(function, "there is no rule for a coroutine that returns an iterator")
        return f"yield from self._iterate({forwarded(function, TARGET)})"
    if isinstance(function, ast.AsyncFunctionDef):
        return _coroutine(member, context)
    return _immediate(member)


def _opening(member: Member, context: ClassContext) -> str:
    """A class method that returns a `PendingConnection` opens a client of the sync class."""
    source, function = member
    if not opens_client(function):
        source.refuse(function, "there is no rule for a class method that does not return a PendingConnection")
    context.imports.add(Import("typing", "Self"))
    return f"return cls._open({forwarded(function, context.async_name)})"


def _special(function: Function) -> str:
    match function.name:
        case "__aenter__":
            return f"self._call({forwarded(function, TARGET)})\nreturn self"
        case "__aexit__":
            return f"self._end({forwarded(function, TARGET)})"
        case "__anext__":
            return f"return self._next({TARGET})"
        case _:
            return "return self"


def _coroutine(member: Member, context: ClassContext) -> str:
    source, function = member
    if function.name == CLOSES:
        return "self._close()" if context.opens else f"self._end({forwarded(function, TARGET)})"
    if callbacks := handlers(function):
        if _parameter_names(function) != callbacks or not _is_none(_annotation(function)):
            source.refuse(function, "there is no rule for a handler among other parameters, or with a result")
        return f"self._handle({TARGET}.{function.name}, {callbacks[0]})"
    return _returned(source, f"self._call({forwarded(function, TARGET)})", _annotation(function))


def _immediate(member: Member) -> str:
    """A method that is not a coroutine: one that makes an object of the client, or one to run in the event loop."""
    source, function = member
    if function.name == "__repr__":
        return f"return repr({TARGET})"
    if handlers(function):
        source.refuse(function, "there is no rule for a handler of a method that is not a coroutine")
    returns = _annotation(function)
    if _planned_name(source, returns):
        return f"self._check()\nreturn {wrapped(source, forwarded(function, TARGET), returns)}"
    arguments = ", ".join([f"{TARGET}.{function.name}", *passed(function.args)])
    return _returned(source, f"self._run({arguments})", returns)


def _returned(source: Source, expression: str, returns: ast.expr) -> str:
    if _is_none(returns):
        return expression
    return f"return {wrapped(source, expression, returns)}"


def _annotation(function: Function) -> ast.expr:
    return function.returns or ast.Constant(None)


def _parameter_names(function: Function) -> list[str]:
    return [node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)][1:]


def _is_none(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Constant) and annotation.value is None


def _is_iterator(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "AsyncIterator"


def opens_client(function: Function) -> bool:
    """Return whether a method is a class method that returns a `PendingConnection`."""
    is_classmethod = [ast.unparse(decorator) for decorator in function.decorator_list] == ["classmethod"]
    return is_classmethod and ast.unparse(_annotation(function)).strip("'").startswith("PendingConnection[")


def _check_awaits_method(source: Source, function: Function) -> None:
    """Accept `__await__` if it awaits a method, which the sync class then has, too."""
    match function.body[-1]:
        case ast.Return(
            value=ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=method)), attr="__await__"
                )
            )
        ) if not method.startswith("_"):
            pass
        case _:
            source.refuse(function, "there is no rule for an __await__ that does not await a public method")


def _is_planned(source: Source, name: str) -> bool:
    return source.definition(name) in SYNC_CLASSES


def _planned_name(source: Source, annotation: ast.expr) -> str | None:
    names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    return next((name for name in names if _is_planned(source, name)), None)
