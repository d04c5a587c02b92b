"""The Spark Connect server's main program, run by spark-submit: a Spark session whose plugin serves Connect.

Spark's own main class (SparkConnectServer) gives each session a class loader of its own, so that no session shares
generated code with another, and the JVM compiles the same queries again for every task: half of the processor time of
a small one. It sets that over whatever the configuration says; here the configuration decides
(`spark.sql.artifact.isolation.*`). This file is run by path: it uses nothing of Penstock.
"""

import sys

from pyspark.sql import SparkSession  # noqa: TID253 - a program, which nothing imports

SparkSession.builder.getOrCreate()
sys.stdin.read()  # ends with the JVM, which started this process and holds the other end
