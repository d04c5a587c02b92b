# One image for the whole stack: Spark Connect, MLflow and Airflow's programs; docker-compose.yaml says which runs.
# Written for the classic builder too (no BuildKit features).

FROM python:3.11-slim-bookworm AS base
COPY docker/certificates /usr/local/share/ca-certificates
# libgomp1: LightGBM. git: versions of project code, and Airflow's Git bundles.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openjdk-17-jre-headless libgomp1 git ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && update-ca-certificates
# Python's packages bring roots of their own, and would not see those that were added.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt

FROM base AS builder
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir uv
COPY requirements.txt /build/
# Bytecode now: the user that runs has no right to write it, and would compile everything at every start.
RUN VIRTUAL_ENV=/opt/venv /opt/venv/bin/uv pip install --no-cache --compile-bytecode -r /build/requirements.txt
# Of the library only what fetches jars, so that a change elsewhere does not fetch them again.
COPY plugins/penstock/__init__.py plugins/penstock/errors.py /build/plugins/penstock/
COPY plugins/penstock/stack/__init__.py plugins/penstock/stack/errors.py plugins/penstock/stack/files.py \
     plugins/penstock/stack/java.py plugins/penstock/stack/jars.py /build/plugins/penstock/stack/
RUN PYTHONPATH=/build/plugins /opt/venv/bin/python -c "from pathlib import Path; \
from penstock.stack.jars import ensure_jars; from penstock.stack.java import find_java; \
ensure_jars(Path('/opt/jars'), find_java())"

FROM base
# The volumes' mount points: a new volume takes over their owner.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin penstock \
 && install -d -o penstock -g penstock /var/lib/penstock \
      /var/lib/penstock/lakehouse /var/lib/penstock/mlflow-artifacts /var/lib/penstock/logs
COPY --from=builder /opt/jars /opt/jars
COPY --from=builder /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/penstock:/opt/penstock/plugins \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TZ=UTC \
    PENSTOCK_ROOT=/opt/penstock \
    PENSTOCK_HOME=/var/lib/penstock \
    PENSTOCK_JARS=/opt/jars
COPY docker/penstock /usr/local/bin/penstock
COPY plugins /opt/penstock/plugins
COPY dags /opt/penstock/dags
COPY include /opt/penstock/include
RUN python -m compileall -q /opt/penstock/plugins /opt/penstock/include
# The commit that this image was built from, and its branch (no .git is in here): tables and models record the commit,
# and models count as trained from reviewed code where the branch is one of the environment's code.branches.
ARG CODE_VERSION=
ARG CODE_BRANCH=
ENV PENSTOCK_CODE_VERSION=$CODE_VERSION \
    PENSTOCK_CODE_BRANCH=$CODE_BRANCH
USER penstock
WORKDIR /opt/penstock
ENTRYPOINT ["python", "-m", "penstock.stack.containers"]
