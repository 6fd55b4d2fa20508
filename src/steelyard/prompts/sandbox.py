"""Jinja, for prompts that ask for it: the immutable sandbox, plain values, an allow-list and budgets.

The template's tree is checked against a list of what is allowed, so whatever Jinja has or gets beyond that
(attributes, calls, macros, includes, `set` blocks) is refused when the prompt is loaded. What is left can
only loop, choose and print; loops, output and time are counted while it renders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from steelyard.core.errors import InvalidValue
from steelyard.prompts.jinja_filters import (
    BUDGET,
    FILTERS,
    LOOK,
    MAX_CHARACTERS,
    MAX_SECONDS,
    MAX_STEPS,
    SMALLER,
    Budget,
    Counted,
    is_number,
    kind_of,
    looped,
    number_range,
    printed,
    too_long,
)
from steelyard.prompts.template import Fault, Where

__all__ = ["MAX_CHARACTERS", "MAX_SECONDS", "MAX_STEPS", "JinjaTemplate"]

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

_LOOPED = "_steelyard_looped"


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed: an index only reads plain containers, a sum only adds numbers."""

    intercepted_binops = frozenset({"+", "-"})
    intercepted_unops = frozenset({"-"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            finalize=printed,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            cache_size=0,
        )
        self.globals = {"range": number_range}
        self.filters = {**FILTERS, _LOOPED: looped}
        self.tests = {k: v for k, v in self.tests.items() if k in _TESTS}

    def getitem(self, obj: Any, argument: Any) -> Any:
        if type(obj) is dict and type(argument) is str:
            found = cast("dict[str, Any]", obj)
            return found[argument] if argument in found else self.undefined(name=argument)
        if type(obj) in (list, tuple, str, Counted) and type(argument) is int:
            try:
                return obj[argument]
            except IndexError:
                return self.undefined(name=str(argument))
        raise InvalidValue(
            f"{kind_of(argument)} is no index of {kind_of(obj)}",
            do="Index an object by a text, a list by a whole number.",
        )

    def getattr(self, obj: Any, attribute: str) -> Any:  # only `loop.…` is left after `_check`
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (is_number(left) and is_number(right)):
            raise InvalidValue(
                f"{operator!r} between {kind_of(left)} and {kind_of(right)}", do="Add numbers only."
            )
        return left + right if operator == "+" else left - right

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        if not is_number(arg):
            raise InvalidValue(f"minus {kind_of(arg)}", do="Negate numbers only.")
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
            raise Fault("the Jinja template is nested too deeply", do=SMALLER, where=where) from None
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
            for part in self._template.generate({**values, BUDGET: Budget()}):
                size += len(part)
                if size > MAX_CHARACTERS:
                    raise too_long()
                parts.append(part)
        except InvalidValue:
            raise
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise InvalidValue(f"the Jinja template cannot be rendered: {_line(error)}", do=LOOK) from None
        return "".join(parts)


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
        known = node.name in FILTERS and node.node is not None and not (node.dyn_args or node.dyn_kwargs)
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
