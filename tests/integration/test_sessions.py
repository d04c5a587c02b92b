"""Spark sessions of a task's tries: several in turn, and what a killed one left running."""

import threading
import time
import uuid

from penstock.lakehouse.session import connect


def test_a_try_may_open_spark_again_and_a_later_try_interrupts_what_it_left(stack):
    task = f"test/{uuid.uuid4()}"
    for _ in range(3):
        with connect(stack.spark_url, stack.spark_token, task) as session:
            assert session.sql("SELECT 1").collect()[0][0] == 1
    failed: list[Exception] = []

    def run_for_long() -> None:
        try:
            with connect(stack.spark_url, stack.spark_token, task) as session:
                session.sql("SELECT count(*) FROM range(1e15) WHERE hash(id) = 0").collect()
        except Exception as error:
            failed.append(error)

    left = threading.Thread(target=run_for_long)
    left.start()
    time.sleep(2)
    with connect(stack.spark_url, stack.spark_token, task, try_number=2) as session:
        assert session.sql("SELECT 2").collect()[0][0] == 2
    left.join(60)
    assert not left.is_alive()
    assert len(failed) == 1


def test_sessions_share_generated_code_and_python_workers(stack):
    """Spark's own main program would set both to true, and the JVM would compile each query again for each task."""
    with connect(stack.spark_url, stack.spark_token, "test/sharing") as spark:
        for name in ("enabled", "alwaysApplyClassloader"):
            assert spark.conf.get(f"spark.sql.artifact.isolation.{name}") == "false"
