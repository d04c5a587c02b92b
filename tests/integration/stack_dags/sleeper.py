"""A task that sleeps, holding a file open by which its process is recognised."""

import time

from airflow.sdk import dag, task

from penstock.home import state_dir


@dag(schedule=None, catchup=False)
def sleeper():
    @task
    def sleep() -> None:
        with (state_dir() / "sleeping").open("w"):
            time.sleep(300)

    sleep()


sleeper()
