"""Evidence whose names, reasons and parameters are instructions to a terminal, a page, Markdown, LaTeX or a sheet."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence as made_up

from optstudy.records.evidence import Evidence
from optstudy.records.look import Look, Looks
from optstudy.records.search import SearchResult
from optstudy.study.presets import read_preset
from optstudy.study.specification import Specification
from optstudy.study.tuning.flow import search_settings

NAMES = (
    "[/red]",
    "[link=file:///etc]x[/link]",
    "\x1b[31mred\x07\x9b2J\x7f",
    "\u202egnp.exe\u2066\u200b",
    "two\r\nlines\u2028and\x0bmore",
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "[x](javascript:alert)",
    "![x](http://evil/p.png)",
    "`code` | cell \\| *b* _i_ ~~s~~",
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "$\\frac$",
    "$x",
    "_hidden",
    "^{x}_{y} 100% & #1 ~",
    "\\input{/etc/passwd}",
    "{{ 7*7 }}{% raw %}",
    "&lt;script&gt;",
    "--",
    "a" * 300,
)


def hostile(*names: str) -> Evidence:
    """Return runs and searches of SGD and of optimizers with these names and labels, in classes of these names."""
    classes = (*names, *map(str, range(10 - len(names))))
    runs = [
        made_up.run_evidence(optimizer, config, seed, classes=classes, epochs=3, steps=4)
        for optimizer in ("sgd", *names)
        for config in ("best", *names[:1])[: 1 + (optimizer == "sgd")]
        for seed in range(2)
    ]
    changes: dict[str, Any] = {"params": dict.fromkeys(names, names[0]), "curvature_problem": names[0]}
    runs = [made_up.with_run(one, **changes) for one in runs]
    looks = {name: Look(name, "#123456", "-o") for name in names}
    searches = tuple(map(_search, names))
    return Evidence(tuple(runs), searches, Looks(looks), dict.fromkeys(names, 1), ("quick",))


def _search(name: str) -> SearchResult:
    search = made_up.search_result("sgd", trials=4)
    space = replace(search.space, name=name, label=name, optimizer=name, fixed={name: name})
    settings = {**search_settings(Specification.from_keys(read_preset("quick", Path()))), **search.settings}
    *trials, last = search.trials
    failed = replace(last, state="failed", problem=name)
    return replace(search, space=space, trials=(*trials, failed), settings=settings)
