"""What Penstock adds to Airflow: pages behind Airflow's own login, the webhook receiver, links from tasks."""

from airflow.plugins_manager import AirflowPlugin

from penstock.operators.links import ALL_LINKS
from penstock.ui.app import app as pages
from penstock.ui.webhook import app as webhooks


class PenstockPlugin(AirflowPlugin):
    """Registers pages, webhook receiver and links."""

    name = "penstock"
    fastapi_apps = [
        {"app": pages, "url_prefix": "/penstock", "name": "Penstock"},
        # Another prefix, so that a proxy can let MLflow reach this one and nobody else.
        {"app": webhooks, "url_prefix": "/penstock-webhooks", "name": "Penstock's webhooks"},
    ]
    external_views = [
        {
            "name": "Penstock",
            "href": "/penstock/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "penstock",
        }
    ]
    operator_extra_links = [link() for link in ALL_LINKS]
