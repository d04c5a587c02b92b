"""The SQL of feature tables: the names in it, its binding to views, what is read from it without running it."""

import pickle

import pytest

from penstock.spec.project import ColumnType
from penstock.spec.sql import SqlError, bind, columns_read, table_names
from penstock.spec.sql_analysis import Kind, analyse

T = ColumnType
ORDERS = {
    "customer": T.STRING, "known_at": T.TIMESTAMP, "amount": T.DOUBLE, "items": T.INT, "day": T.DATE,
    "gift": T.BOOLEAN, "number": T.BIGINT,
}  # fmt: skip
TABLES = {"orders": ORDERS, "returns": {"customer": T.STRING, "share": T.DOUBLE, "known_at": T.TIMESTAMP}}


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT * FROM orders o JOIN Returns USING (customer)", {"orders", "returns"}),
        ("SELECT * FROM wholesale.orders, prod.shop.orders", {"wholesale.orders", "prod:shop.orders"}),
        ("SELECT * FROM `prod:shop.orders`", {"prod:shop.orders"}),
        ("WITH o AS (SELECT * FROM orders) SELECT * FROM o", {"orders"}),
        ("WITH orders AS (SELECT * FROM orders) SELECT * FROM orders", {"orders"}),
        ("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT * FROM n", set()),
        ("WITH a AS (WITH b AS (SELECT * FROM orders) SELECT * FROM b) SELECT * FROM a JOIN b", {"orders", "b"}),
        ("SELECT 1 FROM orders WHERE customer IN (SELECT customer FROM returns)", {"orders", "returns"}),
        ("SELECT * FROM range(10)", set()),
        ("SELECT word FROM orders LATERAL VIEW explode(split(customer, ' ')) w AS word", {"orders"}),
    ],
)
def test_finds_the_tables_that_a_query_reads(sql: str, names: set[str]) -> None:
    assert table_names(sql) == names


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("SELECT orders.x -- orders é\nFROM orders", "SELECT orders.x -- orders é\nFROM `v1` AS `orders`"),
        ("SELECT o.x FROM ORDERS AS o", "SELECT o.x FROM `v1` AS o"),
        (
            "SELECT wholesale.orders.x FROM wholesale.orders JOIN orders b ON true",
            "SELECT `orders`.x FROM `v2` AS `orders` JOIN `v1` b ON true",
        ),
        ("SELECT * FROM prod.shop.returns", "SELECT * FROM `v3` AS `returns`"),
        ("SELECT * FROM shop.returns", "SELECT * FROM `v3` AS `returns`"),
        ("SELECT * FROM `prod:shop.returns`", "SELECT * FROM `v3` AS `returns`"),
        (
            "WITH orders AS (SELECT * FROM orders) SELECT 'orders' FROM orders;",
            "WITH orders AS (SELECT * FROM `v1` AS `orders`) SELECT 'orders' FROM orders;",
        ),
    ],
)
def test_binds_inputs_to_views_and_leaves_the_rest_of_the_text(sql: str, bound: str) -> None:
    assert bind(sql, {"orders": "v1", "wholesale.orders": "v2", "prod:shop.returns": "v3"}) == bound


@pytest.mark.parametrize(
    ("sql", "line", "message"),
    [
        ("SELECT 1\nFROM ordrs", 2, "reads ordrs, which is no declared input; write orders"),
        ("SELECT *\nFROM delta.`/data/x`", 2, "is no declared input"),
        ("SELECT *\nFROM orders\nTIMESTAMP AS OF '2020-01-01'", 2, "chooses rows or a version of orders by itself"),
        ("SELECT * FROM orders TABLESAMPLE (5 PERCENT)", 1, "chooses rows or a version"),
        ("SELECT * FROM read_files('/x')", 1, "reads read_files"),
        ("DELETE FROM orders", 1, "holds DELETE, not one SELECT"),
        ("", 1, "holds nothing, not one SELECT"),
        ("WITH v1 AS (SELECT 1) SELECT * FROM orders", 1, "names a WITH v1, which is the name of a view"),
    ],
)
def test_refuses_to_bind_anything_but_declared_inputs(sql: str, line: int, message: str) -> None:
    with pytest.raises(SqlError, match=message) as raised:
        bind(sql, {"orders": "v1"})
    assert raised.value.line == line
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("customer", Kind.TEXT), ("concat(customer, '-', items)", Kind.TEXT), ("date_format(day, 'E')", Kind.TEXT),
        ("CASE WHEN gift THEN 'a' ELSE 'b' END", Kind.TEXT), ("CAST(items AS string)", Kind.TEXT),
        ("amount > 1", Kind.TRUTH), ("gift AND items IS NULL", Kind.TRUTH), ("customer LIKE 'a%'", Kind.TRUTH),
        ("items", Kind.WHOLE), ("items + number", Kind.WHOLE), ("hour(known_at)", Kind.WHOLE),
        ("datediff(day, day)", Kind.WHOLE), ("length(customer)", Kind.WHOLE), ("dayofweek(day)", Kind.WHOLE),
        ("CASE WHEN gift THEN 1 ELSE 0 END", Kind.WHOLE), ("coalesce(items, 0)", Kind.WHOLE),
        ("unix_timestamp(known_at)", Kind.WHOLE), ("year(day)", Kind.WHOLE),
        ("amount", Kind.REAL), ("items / 2", Kind.REAL), ("round(amount, 1)", Kind.REAL), ("log(items)", Kind.REAL),
        ("if(gift, 1.0, 0.0)", Kind.REAL), ("amount * items", Kind.REAL), ("CAST(gift AS double)", Kind.REAL),
        ("known_at", Kind.TIME), ("day", Kind.TIME), ("to_date(customer)", Kind.TIME),
        ("TIMESTAMP '1970-01-01 00:00:00 UTC'", Kind.TIME), ("date_add(day, 1)", Kind.TIME),
        ("max_by(customer, known_at)", None), ("NULL", None), ("split(customer, ',')", None),
    ],
)  # fmt: skip
def test_tells_the_kind_of_an_expression(expression: str, kind: Kind | None) -> None:
    analysis = analyse(f"SELECT {expression} AS x FROM orders", TABLES)
    assert analysis.problems == []
    assert analysis.outputs is not None
    assert [(output.name, output.kind) for output in analysis.outputs] == [("x", kind)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT o.*, share FROM orders o LEFT JOIN returns r ON o.customer = r.customer",
        "SELECT customer, sum(items) AS n FROM orders GROUP BY customer HAVING n > 1 ORDER BY n",
        "SELECT items * 2 AS twice, twice + 1 AS more FROM orders",
        "SELECT customer FROM orders o WHERE EXISTS (SELECT 1 FROM returns r WHERE r.customer = o.customer)",
        "SELECT customer FROM orders o WHERE amount > (SELECT avg(share) FROM returns WHERE customer = o.customer)",
        "WITH d AS (SELECT customer AS c, amount FROM orders) SELECT c, d.amount FROM d",
        "SELECT c FROM (SELECT customer AS c, row_number() OVER (ORDER BY known_at) AS n FROM orders) WHERE n = 1",
        "SELECT word FROM orders LATERAL VIEW explode(split(customer, ' ')) w AS word",
        "SELECT transform(split(customer, ''), x -> upper(x)) AS letters FROM orders",
        "SELECT customer, x FROM orders, LATERAL (SELECT share AS x FROM returns WHERE amount > 1)",
        "SELECT * FROM (SELECT customer, gift, items FROM orders) PIVOT (sum(items) FOR gift IN (true, false))",
        "SELECT avg(amount) OVER w AS a FROM orders WINDOW w AS (PARTITION BY customer ORDER BY known_at)",
        "SELECT customer FROM orders UNION ALL SELECT customer FROM returns",
        "SELECT id, v.a FROM range(3) CROSS JOIN (VALUES (1), (2)) AS v(a)",
        "SELECT Customer, ORDERS.Amount FROM Orders",
        "SELECT explode(split(customer, ',')) AS part FROM orders",
        "SELECT percentile_approx(amount, 0.5) FILTER (WHERE gift) AS p FROM orders",
        "SELECT count(DISTINCT customer) AS n FROM orders GROUP BY ROLLUP (day)",
        "SELECT * EXCEPT (amount) FROM orders",
        "FROM orders SELECT customer",
    ],
)
def test_finds_nothing_wrong_with_what_spark_accepts(sql: str) -> None:
    assert analyse(sql, TABLES).problems == []


def test_expands_stars() -> None:
    analysis = analyse("SELECT * FROM returns", TABLES)
    assert analysis.outputs is not None
    assert [(output.name, output.exact) for output in analysis.outputs] == list(TABLES["returns"].items())


@pytest.mark.parametrize(
    ("sql", "line", "message"),
    [
        ("SELECT customer\nFROM orders JOIN returns ON true", 1, "'customer' is ambiguous"),
        ("WITH d AS (SELECT customer AS c FROM orders)\nSELECT customer FROM d", 2, "no input has a column 'customer'"),
        ("WITH d AS (SELECT customer AS c FROM orders)\nSELECT d.customer FROM d", 2, "d has no column 'customer'"),
        ("SELECT 1 AS x FROM orders\nWHERE nothing = 1", 2, "no input has a column 'nothing'"),
        ("SELECT 1 AS x FROM orders o\nWHERE EXISTS (SELECT 1 FROM returns WHERE o.no = 1)", 2, "no column 'no'"),
        ("SELECT customer FROM orders\nUNION ALL SELECT customr FROM returns", 2, "no input has a column 'customr'"),
    ],
)  # fmt: skip
def test_finds_columns_that_are_not_there(sql: str, line: int, message: str) -> None:
    (problem,) = analyse(sql, TABLES).problems
    assert problem.line == line
    assert message in problem.message


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT customer, count(*) FROM orders WHERE Amount > 2 GROUP BY 1", ["customer", "amount"]),
        ("SELECT o.`items` FROM orders o JOIN returns USING (customer) ORDER BY day", ["customer", "items", "day"]),
        ("SELECT transform(array(amount), a -> a + number) FROM orders", ["amount", "number"]),
        ("SELECT count(*) FROM orders", []),
        ("SELECT * FROM orders", list(ORDERS)),
        ("SELECT o.* EXCEPT (day) FROM orders o", list(ORDERS)),
        ("SELECT struct(*) FROM orders", list(ORDERS)),
        ("SELECT customer FROM orders NATURAL JOIN returns", list(ORDERS)),
        ("SELECT q FROM (SELECT day FROM orders) UNPIVOT (v FOR q IN (day))", list(ORDERS)),
        ("SELECT 1 FROM orders PIVOT (sum(amount) FOR day IN (1))", list(ORDERS)),
    ],
)
def test_finds_the_columns_that_a_query_may_read(sql: str, columns: list[str]) -> None:
    assert columns_read(sql, ORDERS) == columns
