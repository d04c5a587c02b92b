"""What Airflow's OpenLineage provider is told when a task ends: which table versions it read and wrote.

The provider asks for it where a transport is configured (`[openlineage] transport`), and only then is it imported.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock.workspace import Workspace

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset

    from penstock.lineage.events import StepLineage, Touched


class OpenLineageMixin:
    """An operator that remembers what it read and wrote, for the event that is sent when it has ended.

    It looks while it runs: the provider asks in a forked process, where deltalake cannot read.
    """

    project: str
    log: Any
    _seen: "tuple[Workspace, StepLineage] | None" = None

    def remember_lineage(self, workspace: Workspace, result: Any) -> None:
        """Looks up what `result` names, where events are wanted. Never fails the task."""
        if not _is_wanted():
            return
        from penstock.lineage.events import step_lineage

        try:
            self._seen = (workspace, step_lineage(workspace, self.project, result))
        except Exception as error:  # an event about the work must not undo the work
            self.log.warning("no OpenLineage datasets for this task: %s", error)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> "OperatorLineage":  # noqa: ARG002
        """Inputs and outputs with version, schema and (for SQL) column lineage, as their tables' commits have them."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        if self._seen is None:  # the task was skipped
            return OperatorLineage()
        workspace, found = self._seen
        return OperatorLineage(
            inputs=[_dataset(workspace, item, output=False) for item in found.inputs],
            outputs=[_dataset(workspace, item, output=True) for item in found.outputs],
        )


def _is_wanted() -> bool:
    try:
        from airflow.providers.openlineage.conf import is_disabled
    except ImportError:
        return False
    return not is_disabled()


def _dataset(workspace: Workspace, item: "Touched", *, output: bool) -> "Dataset":
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import (
        dataset_version_dataset,
        documentation_dataset,
        schema_dataset,
        symlinks_dataset,
    )

    facets: dict[str, Any] = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(str(item.version)),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet(
            [symlinks_dataset.Identifier(f"penstock://{workspace.environment.name}", item.name, "TABLE")]
        ),
    }
    if item.description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(item.description)
    if item.columns:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [
                schema_dataset.SchemaDatasetFacetFields(column.name, column.type, column.description or None)
                for column in item.columns
            ]
        )
    namespace, name = _place(workspace, item)
    if not output:
        return InputDataset(namespace, name, facets=facets)
    if item.sources:
        facets["columnLineage"] = _column_lineage(workspace, item)
    return OutputDataset(namespace, name, facets=facets)


def _column_lineage(workspace: Workspace, item: "Touched") -> Any:
    from openlineage.client.facet_v2 import column_lineage_dataset as facet

    places = {table: dataset_place(_path(workspace, table)) for pairs in item.sources.values() for table, _ in pairs}
    return facet.ColumnLineageDatasetFacet(
        {
            column: facet.Fields([facet.InputField(*places[table], field) for table, field in pairs])
            for column, pairs in item.sources.items()
            if pairs
        }
    )


def _place(workspace: Workspace, item: "Touched") -> tuple[str, str]:
    return (workspace.resolved.mlflow_uri, item.name) if item.is_model else dataset_place(item.path or item.name)


def _path(workspace: Workspace, table: str) -> str:
    return workspace.addresses.find(table) or table


def dataset_place(path: str) -> tuple[str, str]:
    """Namespace and name of a table, as OpenLineage names files: `file` and the path, or `s3://bucket` and the key."""
    parts = urlsplit(path)
    if not parts.scheme:
        return "file", path
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")
