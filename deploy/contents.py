"""What an image must not hold: secrets, and tools that build programs; in any layer, for a later one only hides it."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

TOOLS = re.compile(
    r"(\w+-linux-gnu-)?(gcc|g\+\+|cc|c\+\+|c89|c99|cpp|clang|tcc|as|ld(?!\.so)|gold|make|cmake|ninja|git|rustc|cargo|go|nvcc)"
    r"([-.][\w.]+)?"
)
FILES = re.compile(
    r"\.netrc|_netrc|\.pypirc|\.npmrc|\.git-credentials|\.env|\.git|\.aws|\.docker|\.mlflow|id_(rsa|ecdsa|ed25519)"
    r"|credentials|pip\.conf|basic_auth\.ini|.*\.key"
)
WORDS = re.compile(
    r"(passw(or)?d|passphrase|secret|token|api_?key|credential)\w*\s*[=:]\s*\S|://[^/\s:@]+:[^/\s:@]+@",
    re.IGNORECASE,
)
TEXTS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@<>{}\"']+:[^/\s:@<>{}\"'$]+@[\w.-]+"
    rb"|(index-url|find-links|trusted-host)\s*[=:]?\s*\S|\b(ghp_|github_pat_|glpat-|hf_|pypi-AgEI|AKIA|xox[bp]-)\w{12}"
)
FOREIGN = re.compile(
    r"site-packages/(?!optstudy/)(?!.*/direct_url\.json)"
    r"|lib/python3(\.\d+)?/(?!site-packages/)|share/(doc|man|perl|info)/|lib/.*/perl"
)
LARGEST = 2_000_000  # bytes of a file that is read as text


def secret_words(lines: Iterable[str]) -> list[str]:
    """Return the lines that give a password, a token or a URL with one in it."""
    return [line for line in lines if WORDS.search(line)]


def secret_files(layers: Iterable[Path]) -> list[str]:
    """Return the files that have the name of a secret or hold one; libraries' own files are left out.

    An empty file is what a mount of the build leaves behind, and no secret.
    """
    own = ((name, path) for name, path in _files(layers) if not FOREIGN.search(name))
    return [name for name, path in own if _named(path) or _telling(path)]


def build_tools(layers: Iterable[Path]) -> list[str]:
    """Return the programs that compile, link or fetch sources."""
    return [
        name
        for name, path in _files(layers)
        if path.parent.name in ("bin", "sbin") and TOOLS.fullmatch(path.name)
    ]


def _files(layers: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for layer in layers:
        for path in layer.rglob("*"):
            if path.is_symlink() or not path.is_dir() or path.name == ".git":
                yield f"/{path.relative_to(layer)}", path


def _named(path: Path) -> bool:
    return bool(FILES.fullmatch(path.name)) and (
        path.is_dir() or path.stat(follow_symlinks=False).st_size > 0
    )


def _telling(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
        return False
    text = path.read_bytes()
    return b"\0" not in text and bool(TEXTS.search(text))
