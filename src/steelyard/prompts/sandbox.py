"""Jinja, for prompts that ask for it: the immutable sandbox, plain values, an allow-list and budgets.

The template's tree is checked against a list of what is allowed, so whatever Jinja has or gets beyond that
(attributes, calls, macros, includes, `set` blocks) is refused when the prompt is loaded. What is left can
only loop, choose and print; loops, output and time are counted while it renders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from steelyard.core.clock import monotonic
from steelyard.core.errors import InvalidValue
from steelyard.prompts.template import Fault, Where

__all__ = ["MAX_CHARACTERS", "MAX_SECONDS", "MAX_STEPS", "JinjaTemplate"]

MAX_CHARACTERS = 4_000_000
MAX_STEPS = 100_000
MAX_SECONDS = 1.0

_BUDGET = "_steelyard_budget"  # begins with '_': no variable can have the name
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For),
    *(nodes.Getitem, nodes.Getattr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.CondExpr, nodes.Test, nodes.Filter, nodes.List, nodes.Tuple, nodes.Call, nodes.Add, nodes.Sub),
    *(nodes.Neg, nodes.Assign, nodes.Keyword),
)
_LOOP = frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"})
_TESTS = frozenset(
    {"defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence"}
    | {"true", "false", "odd", "even", "in", "eq", "ne", "lt", "le", "gt", "ge"}
)


class _Budget:
    """What one rendering may still use."""

    def __init__(self) -> None:
        self.steps, self.deadline = MAX_STEPS, monotonic() + MAX_SECONDS

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise InvalidValue(f"the template takes more than {MAX_STEPS:,} steps", do=_SMALLER)
        if monotonic() > self.deadline:
            raise InvalidValue(f"the template takes longer than {MAX_SECONDS:g} s to render", do=_SMALLER)


class _Counted(list[Any]):
    """What a loop goes through; each turn costs a step."""

    __slots__ = ("budget",)

    def __init__(self, values: list[Any], budget: _Budget) -> None:
        super().__init__(values)
        self.budget = budget

    def __iter__(self) -> Iterator[Any]:
        for value in super().__iter__():
            self.budget.step()
            yield value


@pass_context
def _looped(context: Context, values: Any) -> list[Any]:
    budget = cast("_Budget", context.resolve(_BUDGET))
    budget.step()
    if type(values) not in (list, tuple, dict, str, _Counted):
        raise InvalidValue(f"a template cannot loop over {_kind(values)}", do="Give it a list or an object.")
    return _Counted(list(values), budget)


def _range(*numbers: Any) -> list[int]:
    if not 1 <= len(numbers) <= 3 or any(type(n) is not int for n in numbers):
        raise InvalidValue("range() takes one to three whole numbers", do="Mend the template.")
    try:
        values = range(*numbers)
        length = len(values)
    except (ValueError, OverflowError):
        length = MAX_STEPS + 1
        values = range(0)
    if length > MAX_STEPS:
        raise InvalidValue(f"range() with more than {MAX_STEPS:,} numbers", do=_SMALLER)
    return list(values)


def _joined(values: Any, by: Any = "") -> str:
    parts = [_printed(v) for v in _plain_list(values)]
    if len(parts) * len(_text(by)) + sum(map(len, parts)) > MAX_CHARACTERS:
        raise _too_long()
    return _text(by).join(parts)


def _indented(value: Any, width: Any = 4, first: Any = False) -> str:
    text, width = _text(value), _count(width)
    if len(text) + (text.count("\n") + 1) * width > MAX_CHARACTERS:
        raise _too_long()
    lines = text.split("\n")
    pad = " " * width
    return "\n".join(pad + line if line and (i or first is True) else line for i, line in enumerate(lines))


def _sorted(values: Any, reverse: Any = False) -> list[Any]:
    try:
        return sorted(_plain_list(values), reverse=bool(reverse))
    except TypeError:
        raise InvalidValue("sort got values that cannot be compared", do="Give values of one type.") from None


def _default(value: Any, other: Any = "") -> Any:
    return other if value is None or isinstance(value, StrictUndefined) else value


def _length(value: Any) -> int:
    if type(value) not in (str, list, tuple, dict, _Counted):
        raise InvalidValue(f"length of {_kind(value)}", do="Give it a text, a list or an object.")
    return len(value)


def _items(value: Any) -> list[tuple[str, Any]]:
    if type(value) is not dict:
        raise InvalidValue(f"items of {_kind(value)}", do="Give it an object.")
    return list(cast("dict[str, Any]", value).items())


def _edge(last: bool) -> Callable[[Any], Any]:
    def pick(values: Any) -> Any:
        members = _plain_list(values)
        if not members:
            raise InvalidValue("first or last of an empty list", do="Test for it with {% if list %}.")
        return members[-1 if last else 0]

    return pick


def _on_text(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: change(_text(value))


def _dumped(value: Any) -> str:
    if isinstance(value, StrictUndefined):
        raise InvalidValue("tojson got an undefined value", do=_LOOK)
    return _text(json.dumps(value, ensure_ascii=False))


_FILTERS: dict[str, Callable[..., Any]] = {
    "upper": _on_text(str.upper),
    "lower": _on_text(str.lower),
    "trim": _on_text(str.strip),
    "title": _on_text(str.title),
    "capitalize": _on_text(str.capitalize),
    "tojson": _dumped,
    "join": _joined,
    "indent": _indented,
    "sort": _sorted,
    "default": _default,
    "length": _length,
    "count": _length,
    "items": _items,
    "first": _edge(last=False),
    "last": _edge(last=True),
}
_LOOPED = "_steelyard_looped"
_SMALLER = "Hand it less, or write a simpler template."


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed: an index only reads plain containers, a sum only adds numbers."""

    intercepted_binops = frozenset({"+", "-"})
    intercepted_unops = frozenset({"-"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            finalize=_printed,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            cache_size=0,
        )
        self.globals = {"range": _range}
        self.filters = {**_FILTERS, _LOOPED: _looped}
        self.tests = {k: v for k, v in self.tests.items() if k in _TESTS}

    def getitem(self, obj: Any, argument: Any) -> Any:
        if type(obj) is dict and type(argument) is str:
            found = cast("dict[str, Any]", obj)
            return found[argument] if argument in found else self.undefined(name=argument)
        if type(obj) in (list, tuple, str, _Counted) and type(argument) is int:
            try:
                return obj[argument]
            except IndexError:
                return self.undefined(name=str(argument))
        raise InvalidValue(
            f"{_kind(argument)} is no index of {_kind(obj)}",
            do="Index an object by a text, a list by a whole number.",
        )

    def getattr(self, obj: Any, attribute: str) -> Any:  # only `loop.…` is left after `_check`
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (_is_number(left) and _is_number(right)):
            raise InvalidValue(
                f"{operator!r} between {_kind(left)} and {_kind(right)}", do="Add numbers only."
            )
        return left + right if operator == "+" else left - right

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        if not _is_number(arg):
            raise InvalidValue(f"minus {_kind(arg)}", do="Negate numbers only.")
        return -arg


_environment: _Sandbox | None = None


class JinjaTemplate:
    """A checked template.

    Args:
        source: The text.
        where: Where it stands in the prompt.

    Raises:
        Fault: it does not parse, or uses what is not allowed.
    """

    def __init__(self, source: str, where: Where = ()) -> None:
        global _environment
        env = _environment = _environment or _Sandbox()
        try:
            tree = env.parse(source)
        except TemplateSyntaxError as error:
            raise Fault(
                f"the Jinja template does not parse: {error.message}",
                do="Mend it, or leave out 'syntax: jinja' if only {{ name }} is needed.",
                where=where,
                offset=_offset(source, error.lineno),
            ) from None
        except (RecursionError, ValueError, OverflowError):
            raise Fault("the Jinja template is nested too deeply", do=_SMALLER, where=where) from None
        try:
            self.names = _check(tree, source, where)
            for loop in list(tree.find_all(nodes.For)):
                loop.iter = nodes.Filter(loop.iter, _LOOPED, [], [], None, None, lineno=loop.lineno)
            tree.set_environment(env)
            self._template = env.template_class.from_code(env, env.compile(tree), env.make_globals(None))
        except Fault:
            raise
        except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
            raise Fault(
                f"the Jinja template cannot be used: {_line(error)}", do="Mend the template.", where=where
            ) from None

    def render(self, values: Mapping[str, Any]) -> str:
        """The text, from values that `plain_value` made.

        Raises:
            InvalidValue: too many steps, too long, too slow, an undefined value, or a fault in an expression.
        """
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate({**values, _BUDGET: _Budget()}):
                size += len(part)
                if size > MAX_CHARACTERS:
                    raise _too_long()
                parts.append(part)
        except InvalidValue:
            raise
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise InvalidValue(f"the Jinja template cannot be rendered: {_line(error)}", do=_LOOK) from None
        return "".join(parts)


_LOOK = "Look at the template and the values that it got."


def plain_value(value: Any) -> Any:
    """The value rebuilt from exact built-in types, so that no class of the caller's reaches a template."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {plain_value(k): plain_value(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    return [plain_value(v) for v in value]


def _check(tree: nodes.Template, source: str, where: Where) -> frozenset[str]:
    """The names that must be handed in; raises `Fault` for anything not on the list."""
    bases = {id(n.node) for n in tree.find_all((nodes.Getattr, nodes.Call))}
    for node in _walk(tree):
        problem = _problem(node, is_base=id(node) in bases)
        if problem is not None:
            raise Fault(
                f"the Jinja template uses {problem}, which is not allowed",
                do="Allowed: {{ name }}, {{ name['key'] }}, if, for, tests and simple filters.",
                where=where,
                offset=_offset(source, node.lineno),
            )
    return frozenset(meta.find_undeclared_variables(tree)) - {"loop"}


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    """Parents before children, so that the base of `loop.index` is known before it is seen."""
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _problem(node: nodes.Node, *, is_base: bool) -> str | None:
    """What of a node is not allowed, in words; None if it is."""
    kind = type(node)
    if kind not in _ALLOWED:
        return f"'{kind.__name__.lower()}'"
    if isinstance(node, nodes.Getattr):
        of_loop = isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _LOOP
        return None if of_loop else f"the attribute '.{node.attr[:40]}'"
    if isinstance(node, nodes.Call):
        of_range = isinstance(node.node, nodes.Name) and node.node.name == "range"
        return None if of_range and not (node.kwargs or node.dyn_args or node.dyn_kwargs) else "a call"
    if isinstance(node, nodes.Filter):
        known = node.name in _FILTERS and node.node is not None and not (node.dyn_args or node.dyn_kwargs)
        return None if known else f"the filter '{node.name[:40]}'"
    if isinstance(node, nodes.Test):
        return None if node.name in _TESTS else f"the test '{node.name[:40]}'"
    if isinstance(node, nodes.For):
        return "a recursive loop" if node.recursive else None
    if isinstance(node, nodes.Assign):
        return None if isinstance(node.target, nodes.Name) else "'set' of several names"
    if isinstance(node, (nodes.List, nodes.Tuple)) and getattr(node, "ctx", "load") == "load":
        # Lists of variables could double at each `set`, to any size.
        constant = all(isinstance(item, (nodes.Const, nodes.Neg)) for item in node.items)
        return None if constant else "a list of anything but constants"
    if isinstance(node, nodes.Name):
        reserved = node.name in ("loop", "range", "self", "super", "caller")
        if not node.name[:1].isalpha() or (reserved and not (is_base and node.ctx == "load")):
            return f"the name '{node.name[:40]}'"
    return None


def _offset(source: str, line: int) -> int:
    return sum(len(text) + 1 for text in source.split("\n")[: max(line - 1, 0)])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _too_long() -> InvalidValue:
    return InvalidValue(f"the template writes more than {MAX_CHARACTERS:,} characters", do=_SMALLER)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _kind(value: Any) -> str:
    return "an undefined value" if isinstance(value, StrictUndefined) else f"a {type(value).__name__}"


def _text(value: Any) -> str:
    if type(value) is not str:
        raise InvalidValue(f"a filter for text got {_kind(value)}", do="Give it a text.")
    if len(value) > MAX_CHARACTERS:
        raise _too_long()
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 1000:
        raise InvalidValue(f"a width of {str(value)[:40]!r}", do="Give a whole number from 0 to 1000.")
    return value


def _plain_list(value: Any) -> list[Any]:
    if type(value) not in (list, tuple, str, dict, _Counted):
        raise InvalidValue(f"a filter for lists got {_kind(value)}", do="Give it a list.")
    return list.copy(value) if isinstance(value, list) else list(value)


def _printed(value: Any) -> str:
    """How a value is printed: as in the default syntax, so that both agree."""
    if type(value) is str:
        return value
    if isinstance(value, StrictUndefined):
        return str(value)  # raises UndefinedError, naming it
    return json.dumps(value, ensure_ascii=False)
