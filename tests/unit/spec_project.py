"""A small valid root (a project `shop`, environments dev and prod) that tests of the specification break."""

from dataclasses import dataclass
from pathlib import Path

from penstock.spec.faults import Fault
from penstock.spec.validation import Validation, validate_root

PROJECT = """\
name: shop
description: Orders of a shop.
owner: shop@example.com
sources:
  orders:
    description: What was ordered.
    primary_keys: [customer, order_id]
    available_at: known_at
    land: sources.orders
    expectations: expectations/orders.yaml
    columns:
      customer: string
      order_id: bigint
      ordered_at: timestamp
      amount: {type: double, description: euros}
      items: int
      known_at: timestamp
  returns:
    description: What came back.
    primary_keys: [customer, order_id]
    available_at: known_at
    columns: {customer: string, order_id: bigint, share: double, known_at: timestamp}
feature_tables:
  customer_daily:
    description: A customer's day.
    primary_keys: [customer]
    inputs: [orders]
    sql: features/customer_daily.sql
    grain:
      columns: [customer, event_time]
      inputs:
        orders:
          expressions:
            customer: customer
            event_time: date_trunc('DAY', known_at) + INTERVAL 1 DAY
    columns:
      customer: string
      event_time: timestamp
      mean_amount: double
      orders: bigint
  customer_returns:
    description: What a customer returned.
    primary_keys: [customer]
    inputs: [returns, orders]
    function: features.returns.returned
    grain:
      columns: [event_time]
      inputs:
        returns:
          join: {input: orders, using: [customer, order_id]}
          expressions:
            event_time: orders.known_at
    columns: {customer: string, event_time: timestamp, returned: double}
models:
  comes_back:
    description: Will an order come back?
    entity:
      table: orders
      keys: [customer, order_id]
      prediction_time: ordered_at
      features: [amount, items]
    label:
      name: back
      table: returns
      expression: share > 0.5
    lookups:
      - table: customer_daily
        keys: {customer: customer}
        features: [mean_amount, orders]
        rename: {orders: day_orders}
        max_age: 3d
        defaults: {mean_amount: 0}
      - table: customer_returns
        keys: {customer: "lower(customer)"}
        features: [returned]
        offset: 1d
    on_demand:
      basket:
        function: models.back.basket
        inputs: [amount, day_orders]
        type: double
    training:
      function: models.back.train
      metric: log_loss
      metrics: {cost: models.back.cost}
      lower_is_better: [cost]
      search:
        num_leaves: {int: [7, 31], log: true}
    promotion:
      metric: log_loss
      heuristic: models.back.guess
      first_bounds:
        roc_auc: {min: 0.6}
    inference:
      keep: [known_at]
      sinks:
        - {kind: parquet, path: /data/predictions}
    monitoring:
      feature_rules:
        amount: {method: wasserstein, threshold: 3}
      quality:
        - {metric: cost, tolerance: 0.1}
    evaluation:
      slices: [order_id]
      resample_by: 1d
      costs: {false_positive: 1, false_negative: 4}
"""
FILES = {
    "sources.py": "def orders(after, until):\n    ...\n",
    "features/customer_daily.sql": """\
-- a customer's day
SELECT
  customer,
  date_trunc('DAY', known_at) + INTERVAL 1 DAY AS event_time,
  avg(amount) AS mean_amount,
  count(*) AS orders
FROM orders
GROUP BY ALL
""",
    "features/returns.py": "def returned(inputs):\n    ...\n",
    "models/back.py": """\
import functools

def train(training, tuning, parameters): ...

def cost(label, prediction, price=1.0): ...

def basket(inputs): ...

guess = functools.partial(cost, 1)
""",
    "expectations/orders.yaml": """\
description: Orders.
expectations:
  - type: expect_column_values_to_not_be_null
    kwargs: {column: amount}
    severity: warning
  - type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
""",
}
DEV = """\
name: dev
description: For development.
lakehouse:
  root: /tmp/lakehouse
  read_only:
    - {name: prod, root: /data/lakehouse}
schedules: false
approval: {mode: automatic}
"""
PROD = """\
name: prod
description: For production.
lakehouse: {root: "${SHOP_BUCKET:-/data/lakehouse}"}
mlflow: {tracking_uri: "${SHOP_MLFLOW:-https://mlflow.example.com}"}
schedules: true
approval: {mode: human, approvers: [ada]}
notifications: [{notifier: penstock.notifiers.file.FileNotifier, arguments: {path: /tmp/told.jsonl}}]
"""


@dataclass(frozen=True)
class Root:
    """A root folder whose files can be edited and validated."""

    path: Path

    def file(self, name: str) -> Path:
        """`project.yaml` and other files of the project, or `dev.yaml` and `prod.yaml`."""
        if name in ("dev.yaml", "prod.yaml"):
            return self.path / "include" / "environments" / name
        return self.path / "include" / "projects" / "shop" / name

    def write(self, name: str, content: str) -> None:
        file = self.file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        content = self.file(name).read_text(encoding="utf-8")
        assert content.count(old) == 1, f"{old!r} stands {content.count(old)} times in {name}"
        self.write(name, content.replace(old, new))

    def line(self, name: str, text: str | int) -> int:
        """The number of the only line that holds a text."""
        if isinstance(text, int):
            return text
        lines = self.file(name).read_text(encoding="utf-8").splitlines()
        (found,) = [number for number, line in enumerate(lines, 1) if text in line]
        return found

    def validate(self, environment: str = "dev") -> Validation:
        return validate_root(self.path, environment)

    def only_fault(self) -> Fault:
        """The one fault that is found."""
        faults = self.validate().faults
        assert len(faults) == 1, "\n".join(fault.render() for fault in faults)
        return faults[0]


def write_root(path: Path) -> Root:
    root = Root(path.resolve())
    root.write("project.yaml", PROJECT)
    root.write("dev.yaml", DEV)
    root.write("prod.yaml", PROD)
    for name, content in FILES.items():
        root.write(name, content)
    return root
