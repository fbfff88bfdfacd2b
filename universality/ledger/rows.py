"""What a claim makes of the rows of one table: columns compared, combined, and given to a few functions; parsed, checked, computed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.base.errors import ClaimError, did_you_mean

MOST_CHARACTERS = 2000
MOST_NODES = 400


def _text(function: Callable[[pd.Series, str], pd.Series]) -> Callable[..., pd.Series]:
    return lambda column, part: function(column.astype(str), str(part))


ROW_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, abs),
    "known": (1, lambda column: column.notna()),
    "source": (1, lambda column: column.astype(str).str.split("/").str[0]),
    "begins": (2, _text(lambda column, part: column.str.startswith(part))),
    "contains": (2, _text(lambda column, part: column.str.contains(part, regex=False))),
}
"""Functions of a column, by name, and how many arguments they take: source gives what stands before the / of a card id."""

ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}


def row_expression(text: str) -> ast.expr:
    """Parse what is made from the columns of a table's rows; `ClaimError` as `prediction`."""
    node = parsed(text)
    check(node, text)
    return node


def columns_of(nodes: Sequence[ast.expr]) -> list[str]:
    """Return the columns that row expressions name, each once, in order."""
    called = {id(part.func) for node in nodes for part in ast.walk(node) if isinstance(part, ast.Call)}
    parts = [part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in called]
    return list(dict.fromkeys(part.id for part in sorted(parts, key=lambda part: part.col_offset)))


def of_rows(node: ast.expr, rows: pd.DataFrame) -> Any:
    """Return the value of a row expression: a column, or one value for all rows.

    Raises
    ------
    ClaimError
        The values are of kinds that cannot be combined, such as a text and a number.
    """
    try:
        return _row_value(node, rows)
    except (TypeError, ValueError, AttributeError, ArithmeticError, NotImplementedError) as cause:
        said = str(cause).splitlines()[0][:120] if str(cause) else type(cause).__name__
        raise ClaimError(
            f"'{brief(ast.unparse(node))}' cannot be computed ({said}); combine columns with values of their own kind"
        ) from None


def number(node: ast.expr, rows: pd.DataFrame) -> Any:
    """Return the numbers of a row expression, truth values as 0 and 1; `ClaimError` for texts."""
    value = of_rows(node, rows)
    kind = pd.Series(value).dtype
    if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)):
        raise ClaimError(f"'{brief(ast.unparse(node))}' is a text, expected a number of each row")
    return value


def condition(node: ast.expr | None, rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for which rows a condition holds, (row,); None holds for all. `ClaimError` if it is no condition."""
    if node is None:
        return np.ones(len(rows), dtype=np.bool_)
    value = pd.Series(of_rows(node, rows), index=rows.index)
    if not pd.api.types.is_bool_dtype(value.dtype):
        raise ClaimError(
            f"'{brief(ast.unparse(node))}' is {value.dtype}, expected a condition, true or false of each row"
        )
    return value.fillna(False).to_numpy(dtype=np.bool_)


def parsed(text: str) -> ast.expr:
    """Return the syntax of an expression, not checked; `ClaimError` where it is none of Python's, or too long."""
    if len(text) > MOST_CHARACTERS:
        raise ClaimError(f"expression '{brief(text)}' has {len(text)} characters, expected at most {MOST_CHARACTERS}")
    try:
        node = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as cause:
        said = cause.msg if isinstance(cause, SyntaxError) else type(cause).__name__
        raise ClaimError(
            f"expression '{brief(text)}' cannot be read ({said}); write it as in docs/how-to/keep-a-ledger.md"
        ) from None
    if sum(1 for _ in ast.walk(node)) > MOST_NODES:
        raise ClaimError(f"expression '{brief(text)}' has more than {MOST_NODES} parts; split the claim")
    return node


def brief(text: str) -> str:
    """Return a text short enough for a sentence."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def refused(node: ast.AST, text: str) -> ClaimError:
    """Return the error about a part that the language has not."""
    written = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
    return ClaimError(
        f"'{brief(written)}' in '{brief(text)}' is not part of the language of claims (no {type(node).__name__}); it has numbers, texts, "
        "columns, + - * /, comparisons, and, or, not, in, and the functions named in docs/how-to/keep-a-ledger.md"
    )


def called(node: ast.Call, text: str) -> str:
    """Return the name that is called; `ClaimError` for any call but ``name(value, ...)``."""
    if not isinstance(node.func, ast.Name) or node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
        raise refused(node, text)
    return node.func.id


def check(node: ast.expr, text: str) -> None:
    """Refuse what is no row expression."""
    if isinstance(node, ast.Call):
        name = called(node, text)
        if name not in ROW_FUNCTIONS:
            raise ClaimError(f"unknown function '{name}' of rows in '{brief(text)}'{did_you_mean(name, ROW_FUNCTIONS)}")
        if len(node.args) != ROW_FUNCTIONS[name][0]:
            raise ClaimError(
                f"'{brief(ast.unparse(node))}' has {len(node.args)} arguments, expected {ROW_FUNCTIONS[name][0]}"
            )
        if not isinstance(node.args[0], ast.Name) and name != "abs":
            raise ClaimError(f"'{brief(ast.unparse(node))}' asks of no column, expected a column's name first")
        if len(node.args) == 2 and not (isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str)):
            raise ClaimError(f"'{brief(ast.unparse(node))}' looks for no text, expected one in quotes")
        inner: list[ast.expr] = node.args
    elif isinstance(node, ast.BoolOp):
        inner = node.values
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        inner = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        inner = [node.operand]
    elif (
        isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in (*COMPARISONS, ast.In, ast.NotIn)
    ):
        if isinstance(node.ops[0], (ast.In, ast.NotIn)) and not isinstance(node.comparators[0], (ast.Tuple, ast.List)):
            raise ClaimError(f"'{brief(ast.unparse(node))}' looks in no list, expected values in brackets")
        listed = node.comparators[0]
        inner = [node.left, listed]
        if isinstance(node.ops[0], (ast.In, ast.NotIn)) and isinstance(listed, (ast.Tuple, ast.List)):
            inner = [node.left, *listed.elts]
            if not all(isinstance(part, ast.Constant) for part in listed.elts):
                raise ClaimError(
                    f"'{brief(ast.unparse(node))}' looks in a list of more than values, expected numbers or texts"
                )
    elif isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and type(node.value) in (int, float, str, bool)):
        inner = []
    else:
        raise refused(node, text)
    for part in inner:
        check(part, text)


def _row_value(node: ast.expr, rows: pd.DataFrame) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in rows.columns:
            raise ClaimError(f"the table has no column '{node.id}'{did_you_mean(node.id, map(str, rows.columns))}")
        return rows[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_row_value(e, rows) for e in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return ROW_FUNCTIONS[node.func.id][1](*(_row_value(a, rows) for a in node.args))
    if isinstance(node, ast.BoolOp):
        parts = [condition(part, rows) for part in node.values]
        joined = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return pd.Series(joined.reduce(parts), index=rows.index)
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            return pd.Series(~condition(node.operand, rows), index=rows.index)
        return -_row_value(node.operand, rows)
    if isinstance(node, ast.BinOp):
        return ARITHMETIC[type(node.op)](_row_value(node.left, rows), _row_value(node.right, rows))
    if isinstance(node, ast.Compare):
        left, right, sign = _row_value(node.left, rows), _row_value(node.comparators[0], rows), node.ops[0]
        if isinstance(sign, (ast.In, ast.NotIn)):
            inside = left.isin(right)
            return inside if isinstance(sign, ast.In) else ~inside
        return COMPARISONS[type(sign)][1](left, right)
    raise refused(node, ast.unparse(node))  # not reached by what was parsed
