"""PyTorch: modules that take the matrix of features, stored as exported programs (pt2), which nobody unpickles."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.training.errors import TrainingError
from penstock.training.matrices import to_matrix

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from mlflow.models import Model

_ROWS_AT_ONCE = 100_000
_FORMAT = "pt2"


def is_module(model: Any) -> bool:
    """Whether this is a PyTorch module; imports nothing for anything else."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def ask_module(module: Any, features: "pd.DataFrame") -> "np.ndarray":
    """What `forward` answers for the matrix of features, on the CPU and without gradients."""
    import numpy as np
    import torch

    if module.training:
        with suppress(NotImplementedError):  # an exported program is in no mode
            module.eval()
    matrix = to_matrix(features)
    with torch.no_grad():
        parts = [
            module(torch.from_numpy(matrix[start : start + _ROWS_AT_ONCE])).numpy()
            for start in range(0, len(matrix), _ROWS_AT_ONCE)
        ]
    return np.concatenate(parts)


def save_module(
    module: Any, path: Path, mlflow_model: "Model", *, example: "pd.DataFrame", pip_requirements: list[str],
    extra_files: list[str],
) -> None:  # fmt: skip
    """Writes a module as an MLflow model folder, in the format pt2 (torch.export): a graph and tensors, no pickle.

    example: prepared features of at least two rows, along which the graph is traced. Raises TrainingError for
    anything but a module.
    """
    import mlflow.pytorch
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    if not is_module(module):
        raise TrainingError(f"{type(module).__name__} is no torch.nn.Module")
    matrix = np.nan_to_num(to_matrix(example))
    tensors = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, matrix.shape[1]))]))
    columns = mlflow_model.signature
    mlflow.pytorch.save_model(
        module.eval(), str(path), mlflow_model=mlflow_model, signature=tensors, input_example=matrix,
        serialization_format=_FORMAT, pip_requirements=pip_requirements, extra_files=extra_files,
    )  # fmt: skip
    # MLflow needs a tensor's signature to trace; the model is asked by the names of its features, like any other.
    mlflow_model.signature = columns
    mlflow_model.flavors["pytorch"]["serialization_format"] = _FORMAT  # MLflow's other flavours say it, too
    mlflow_model.saved_input_example_info = None
    for name in ("input_example.json", "serving_input_example.json"):
        (path / name).unlink(missing_ok=True)
    mlflow_model.save(str(path / "MLmodel"))
