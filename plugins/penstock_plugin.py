"""What Penstock adds to Airflow: pages behind Airflow's own login, and links from tasks to what they made."""

from airflow.plugins_manager import AirflowPlugin

from penstock.operators.links import ALL_LINKS
from penstock.ui.app import app


class PenstockPlugin(AirflowPlugin):
    """Registers pages and links."""

    name = "penstock"
    fastapi_apps = [{"app": app, "url_prefix": "/penstock", "name": "Penstock"}]
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
