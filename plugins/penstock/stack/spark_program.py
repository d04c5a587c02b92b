"""The Spark Connect server: one warm JVM that every task, test and notebook shares."""

from __future__ import annotations

import re
from pathlib import Path

from penstock.home import Credentials
from penstock.stack.jars import pyspark_home
from penstock.stack.java import MODULE_OPTIONS, Java
from penstock.stack.programs import Program, base_environment
from penstock.stack.settings import StackSettings

_MAIN = Path(__file__).with_name("spark_main.py")
_ANY_COLLECTOR = re.compile(r"-XX:\+Use\w*GC")
_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {folder}/spark-server.log
appender.file.filePattern = {folder}/spark-server.%i.log
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss.SSS}} %p %c{{1}}: %m%n%ex
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


def spark_program(settings: StackSettings, credentials: Credentials, java: Java, delta_jars: Path) -> Program:
    """Return the Connect server."""
    folder = settings.state / "spark"
    spark_home = pyspark_home()
    files = {
        folder / "spark.conf": _properties(settings, folder),
        folder / "log4j2.properties": _LOG4J.format(folder=settings.logs),
    }
    command = (
        str(java.executable),
        f"-Xmx{settings.spark_memory}",
        "-XX:+ExitOnOutOfMemoryError",  # a server out of memory answers no more: leave, and be started again
        *MODULE_OPTIONS,
        *_collector(settings.spark_java_options),
        *settings.spark_java_options,
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        "-Djava.net.preferIPv4Stack=true",
        "-cp",
        f"{spark_home}/jars/*:{delta_jars}/*",
        "org.apache.spark.deploy.SparkSubmit",
        "--properties-file",
        str(folder / "spark.conf"),
        str(_MAIN),
    )
    environment = {
        **base_environment(settings),
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SCALA_VERSION": "2.13",
        # With a token, clients can dial nothing but localhost: any other host makes them ask for TLS.
        **({"SPARK_CONNECT_AUTHENTICATE_TOKEN": credentials.spark.token} if credentials.spark.token else {}),
        "PYSPARK_PYTHON": str(settings.python),
        "PYSPARK_DRIVER_PYTHON": str(settings.python),
        # Python workers load models from MLflow (spark_udf).
        "MLFLOW_TRACKING_URI": credentials.mlflow.url,
        "MLFLOW_TRACKING_USERNAME": credentials.mlflow.username,
        "MLFLOW_TRACKING_PASSWORD": credentials.mlflow.password,
    }
    return Program("spark", command, folder, environment, files)


def _collector(options: tuple[str, ...]) -> tuple[str, ...]:
    """The garbage collector, unless the options name one: queries ask for throughput, not for short pauses.

    A point-in-time join of 3.3 million rows takes two thirds of the processor time that the default needs.
    """
    return () if any(_ANY_COLLECTOR.fullmatch(option) for option in options) else ("-XX:+UseParallelGC",)


def _properties(settings: StackSettings, folder: Path) -> str:
    properties = {
        "spark.app.name": f"penstock-{settings.environment}",
        "spark.master": f"local[{settings.spark_cores}]",
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        # Sessions share class loaders, and with them generated code that the JVM has compiled, and Python workers. What
        # a session adds (a jar, a Python file) others see; whoever has the token may run any code here anyway.
        "spark.sql.artifact.isolation.enabled": "false",
        "spark.sql.artifact.isolation.alwaysApplyClassloader": "false",
        "spark.connect.grpc.binding.address": settings.network.listen,
        "spark.connect.grpc.binding.port": settings.ports.spark,
        "spark.ui.enabled": "false",
        "spark.local.dir": folder / "tmp",
        "spark.sql.warehouse.dir": folder / "warehouse",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": 4,
        "spark.databricks.delta.snapshotPartitions": 1,
        "spark.sql.execution.arrow.maxRecordsPerBatch": 50_000,
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # The JVM compiles no method of more than 8,000 bytes: code of several joins in one, interpreted, is slower
        # than the joins one after the other (a third more processor time for a point-in-time join of three tables).
        "spark.sql.codegen.hugeMethodLimit": 8_000,
    }
    return "".join(f"{key} {value}\n" for key, value in properties.items())
