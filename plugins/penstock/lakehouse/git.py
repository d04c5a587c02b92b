"""What Git knows of the code here: which branches hold a commit (whether it was reviewed), and what no commit holds."""

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

CODE = frozenset({".py"})
CODE_AND_DECLARATIONS = CODE | {".sql", ".yaml", ".yml"}
BRANCH_VARIABLE, VERSION_VARIABLE = "PENSTOCK_CODE_BRANCH", "PENSTOCK_CODE_VERSION"
DIRTY = "-dirty"
_DECIDES = CODE_AND_DECLARATIONS | {".toml", ".cfg", ".sh"}
_ASIDE = frozenset({"docs", "tests", "benchmarks", ".github", ".penstock", ".venv"})
"""Folders at the top of a repository in which nothing decides what a model becomes."""


@dataclass(frozen=True)
class CodeState:
    """A project's code at one moment. commit: None outside Git, and where nothing else says it; uncommitted: the files
    with changes that no commit holds.
    """

    commit: str | None
    uncommitted: tuple[str, ...] = ()

    @property
    def version(self) -> str | None:
        """The commit, with `-dirty` where the project or code that it rests on has uncommitted changes."""
        return f"{self.commit}{DIRTY}" if self.commit and self.uncommitted else self.commit


def code_state(folder: Path) -> CodeState:
    """The code of a project's folder as Git knows it; outside Git (in an image), as PENSTOCK_CODE_VERSION says.

    Asked anew each time: in a notebook, files change while the process lives.
    """
    head = _git(folder, "rev-parse", "HEAD")
    if head.returncode:
        return CodeState(os.environ.get(VERSION_VARIABLE) or None)
    return CodeState(head.stdout.strip(), uncommitted(folder))


def reviewed_on(folder: Path, code: str | None, patterns: Sequence[str]) -> tuple[str, ...] | None:
    """The branches with names like `patterns` that contain a commit; None where Git cannot tell here.

    A branch that a remote has counts as the remote has it, so that no local branch of the same name stands in for it.
    Outside Git (in an image) the branch that it was built from counts, for the commit that it was built from:
    PENSTOCK_CODE_BRANCH, PENSTOCK_CODE_VERSION.
    """
    commit = (code or "").removesuffix(DIRTY)
    if not commit:
        return None
    if _git(folder, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        built_from = os.environ.get(BRANCH_VARIABLE, "")
        if not built_from or commit != os.environ.get(VERSION_VARIABLE):
            return None
        return _named_like({built_from}, patterns)
    holding = _git(
        folder, "for-each-ref", f"--contains={commit}", "--format=%(refname)", "refs/heads", "refs/remotes"
    ).stdout.split()
    existing = _git(folder, "for-each-ref", "--format=%(refname)", "refs/remotes").stdout.split()
    on_a_remote = {_branch(name) for name in existing}
    found = {_branch(name) for name in holding if name.startswith("refs/remotes/") or _branch(name) not in on_a_remote}
    return _named_like(found, patterns)


def in_git(folder: Path) -> bool:
    """Whether a folder lies in a Git repository; those of an image do not."""
    return _git(folder, "rev-parse", "--git-dir").returncode == 0


def uncommitted(folder: Path) -> tuple[str, ...]:
    """The files with changes that no commit holds, new ones too, which may decide what a project's models become.

    Of the project's own folder any file counts; of the rest of its repository (the library, SQL of other projects,
    DAGs, requirements) code and declarations do, but for docs, tests and what Git ignores. Paths are from the
    repository's top. Empty outside Git.
    """
    prefix = _git(folder, "rev-parse", "--show-prefix")
    if prefix.returncode:
        return ()
    own = prefix.stdout.strip()
    told = _git(folder, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ":/").stdout
    names = [entry[3:] for entry in told.split("\0") if entry]
    return tuple(sorted(name for name in names if name.startswith(own) or _decides(name)))


def _decides(name: str) -> bool:
    path = PurePosixPath(name)
    aside = len(path.parts) > 1 and path.parts[0] in _ASIDE
    return not aside and (path.suffix in _DECIDES or path.name.startswith("requirements"))


def project_digest(folder: Path, suffixes: Collection[str] = CODE_AND_DECLARATIONS) -> str:
    """A digest of a project's files of some kinds, wherever its folder lies, in Git or not."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in suffixes and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def export_commit(folder: Path, commit: str, target: Path) -> Path | None:
    """Writes `folder` (of a Git repository) as it was at a commit under `target`; answers where it is then.

    None where Git does not know the commit here, or the folder was not there then.
    """
    prefix = _git(folder, "rev-parse", "--show-prefix")
    top = _git(folder, "rev-parse", "--show-toplevel").stdout.strip()
    if prefix.returncode or _git(folder, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        return None
    inner = prefix.stdout.strip()
    packed = subprocess.run(
        ["git", "-C", top, "archive", "--format=tar", commit, *([inner] if inner else [])],
        capture_output=True, check=False,
    )  # fmt: skip
    if packed.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(target, filter="data")
    return target / inner


def _named_like(branches: Collection[str], patterns: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in branches if any(fnmatchcase(name, pattern) for pattern in patterns)))


def _branch(reference: str) -> str:
    """`refs/heads/release/7` and `refs/remotes/origin/release/7` are the branch release/7."""
    parts = reference.split("/")
    return "/".join(parts[2:] if parts[1] == "heads" else parts[3:])


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError as error:  # no Git on this machine
        return subprocess.CompletedProcess(["git"], 127, "", str(error))
