"""What a PromQL expression is made of, by a parser that is not Prometheus's own."""

from collections.abc import Iterator

import promql_parser as promql

#: Operators between two conditions, or between a value and its bound.
CONDITIONS = {"and", "or", "unless", "==", "!=", ">", "<", ">=", "<="}


def metrics(expression: str) -> set[str]:
    """The names of the metrics, and of what rules record, that the expression reads."""
    found = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            found.add(node.name)
        elif isinstance(node, promql.MatrixSelector):
            found.add(node.vector_selector.name)

    promql.walk(promql.parse(expression), visit)
    return found


def exported(name: str) -> str:
    """The name under which docs/metrics.md lists it: that of a histogram for one of its samples."""
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def operands(expression: str) -> list[str]:
    """The sides of a condition that have to have data for it to ever hold; bounds are left out."""
    return [str(node) for node in _sides(promql.parse(expression))]


def _sides(node: promql.Expr) -> Iterator[promql.Expr]:
    if isinstance(node, promql.ParenExpr):
        yield from _sides(node.expr)
    elif isinstance(node, promql.BinaryExpr) and str(node.op) in CONDITIONS:
        yield from _sides(node.lhs)
        yield from _sides(node.rhs)
    elif not isinstance(node, promql.NumberLiteral):
        yield node
