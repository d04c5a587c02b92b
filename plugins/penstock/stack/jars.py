"""Spark's extra jars (Delta Lake), resolved once by Ivy and kept beside the environments.

Ivy comes with PySpark and is called directly with Ivy's own default repositories. Two traps are so avoided:
the second Hadoop client that Delta asks for and PySpark already has, and a broken ~/.m2, which spark-submit
would search.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from penstock.stack.errors import JarsError
from penstock.stack.files import tail
from penstock.stack.java import Java

DELTA = ("io.delta", "delta-spark_4.2_2.13", "4.4.0")
_TIMEOUT_SECONDS = 600

# What PySpark ships in its own version.
_SHIPPED_ORGANISATIONS = (
    "com.github.luben",
    "org.apache.hadoop",
    "org.apache.logging.log4j",
    "org.apache.parquet",
    "org.roaringbitmap",
    "org.scala-lang",
    "org.slf4j",
)


def pyspark_home() -> Path:
    """Return the folder of the installed PySpark, without importing it."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JarsError("pyspark is not installed: run `make setup`")
    return Path(spec.origin).parent


def delta_folder(jars: Path) -> Path:
    """Return the folder of this version's jars inside `jars`; it exists only when complete."""
    _, name, version = DELTA
    return jars / f"{name}-{version}"


def have_jars(jars: Path) -> bool:
    """Say whether the jars are there."""
    _, name, version = DELTA
    return (delta_folder(jars) / f"{name}-{version}.jar").is_file()


def ensure_jars(jars: Path, java: Java) -> Path:
    """Return the folder of the jars, after fetching them if they are missing.

    Raises:
        JarsError: the registry could not be reached, or lacks them.
    """
    folder = delta_folder(jars)
    if have_jars(jars):
        return folder
    jars.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars, prefix=".fetch-") as name:
        work = Path(name)
        _fetch(work, java)
        _drop_shipped(work / "jars", pyspark_home() / "jars")
        try:
            os.rename(work / "jars", folder)
        except OSError:
            if not have_jars(jars):  # another stack of this home may have been faster
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(work / "jars", folder)
    return folder


def _fetch(work: Path, java: Java) -> None:
    (work / "ivy.xml").write_text(_ivy_module())
    log = work / "ivy.log"
    command = [
        str(java.executable),
        "-jar", *(str(jar) for jar in (pyspark_home() / "jars").glob("ivy-*.jar")),
        *_ivy_settings(),
        "-ivy", str(work / "ivy.xml"),
        "-cache", str(work / "cache"),
        "-types", "jar", "bundle",
        "-retrieve", f"{work}/jars/[artifact]-[revision](-[classifier]).[ext]",
    ]  # fmt: skip
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=_TIMEOUT_SECONDS, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    group, artifact, version = DELTA
    if code != 0 or not (work / "jars" / f"{artifact}-{version}.jar").is_file():
        evidence = "\n".join(f"      {line}" for line in tail(log, 12))
        raise JarsError(
            f"cannot fetch {group}:{artifact}:{version}: registry not reachable, or it lacks the jar.\n"
            "    Check the network (Maven Central, or your mirror in the ivysettings.xml that\n"
            f"    PENSTOCK_IVY_SETTINGS names), or put the jars into {delta_folder(work.parent)}\n"
            f"    by hand. Ivy said:\n{evidence}"
        )


def _ivy_settings() -> list[str]:
    settings = os.environ.get("PENSTOCK_IVY_SETTINGS")
    return ["-settings", settings] if settings else []


def _ivy_module() -> str:
    group, artifact, version = DELTA
    excludes = "".join(f'<exclude org="{organisation}"/>' for organisation in _SHIPPED_ORGANISATIONS)
    return (
        '<ivy-module version="2.0"><info organisation="penstock" module="spark-jars"/><dependencies>'
        f'<dependency org="{group}" name="{artifact}" rev="{version}" conf="*->master,compile,runtime"/>'
        f"{excludes}</dependencies></ivy-module>"
    )


def _drop_shipped(fetched: Path, shipped: Path) -> None:
    """Remove the fetched jars of libraries that PySpark ships in some version: its own must win."""
    names = {_artifact(jar) for jar in shipped.glob("*.jar")}
    for jar in fetched.glob("*.jar"):
        if _artifact(jar) in names:
            jar.unlink()


def _artifact(jar: Path) -> str:
    return re.sub(r"-\d[^-]*(-.*)?\.jar$", "", jar.name)
