"""Shows in Airflow, as an import error of this file, what is wrong with projects that therefore have no DAGs."""

from penstock.pipelines import raise_for_broken_projects

raise_for_broken_projects(__file__)
