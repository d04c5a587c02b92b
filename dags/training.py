"""training: a training set as of a moment, a tuned and explained model, a registered version, a knock at the door.

One Airflow DAG for every model.
"""

from penstock.operators.promotion import request_promotion
from penstock.operators.training import (
    BuildTrainingSetOperator,
    EvaluateModelOperator,
    ExplainModelOperator,
    ProfileModelOperator,
    RegisterModelOperator,
    TrainModelOperator,
)
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model")
def training(scope: Scope) -> None:
    """Trains a candidate and registers it with no stage, which starts its promotion.

    The training set holds each entity row's features as of its prediction time (with training.as_known as they were
    known then), and only labels known at as_of. It is split in time: train, tune, hold out.
    """
    about = {"project": scope.project, "model": scope.model, "root": scope.root}
    training_set = BuildTrainingSetOperator(task_id="training_set", **about)
    train = TrainModelOperator(task_id="train", training_set=training_set.output, **about)
    run_id = "{{ ti.xcom_pull(task_ids='train')['run_id'] }}"
    evaluate = EvaluateModelOperator(task_id="evaluate", run_id=run_id, **about)
    explain = ExplainModelOperator(task_id="explain", run_id=run_id, **about)
    profile = ProfileModelOperator(task_id="profile", run_id=run_id, **about)
    register = RegisterModelOperator(task_id="register", run_id=run_id, **about)
    promote = request_promotion(scope, registered="register", training_set="training_set")
    training_set >> train >> evaluate >> [explain, profile] >> register >> promote
