"""How Sphinx builds the site: `make docs`."""

import dataclasses
import inspect
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

from optstudy import __version__

project = "optstudy"
author = "The optstudy authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "results"]  # docs/results holds what a report wrote, not pages

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links may name a heading, as on GitHub

default_role = "code"  # single backticks in docstrings
add_module_names = False
autoclass_content = "both"  # what a class is, and what its constructor takes
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False  # "Returns: One thing: what it is" begins with no type

# No build looks up other projects' pages, and not every record of a signature has a place on this site.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|collections|pathlib|numpy|pandas|nn|Tensor|Any|ParamsT|ProcessGroup)\b.*"),
    ("py:.*", r"optstudy\.(?!curvature\.\w+$).*"),
    ("py:exc", "OptstudyError|UsageError"),  # as docstrings name them; they are on the page of the API
]

html_theme = "furo"
html_title = f"optstudy {version}"
html_math_renderer = "mathml"
html_show_copyright = False
html_copy_source = False

FIELD = re.compile(r"^    (\w+): [^#\n]*# (.+)$", flags=re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Register formulas as MathML and the comments of dataclasses as documentation."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("autodoc-process-docstring", add_fields, priority=400)  # before napoleon, which reads them


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a sentence; browsers draw MathML without a script from elsewhere."""
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula that stands by itself."""
    formula = node.astext()
    if r"\\" in formula:
        formula = rf"\begin{{align}} {formula} \end{{align}}"
    writer.body.append(f"<div>{mathml(formula, display='block')}</div>")
    raise nodes.SkipNode


def mathml(formula: str, display: str = "inline") -> str:
    """Return a formula as MathML, bars close to what they enclose."""
    bar = '<mo stretchy="false">&#x0007C;</mo>'
    tight = bar.replace(">", ' lspace="0" rspace="0">', 1)
    return str(convert(formula, display=display)).replace(bar, tight)


def add_fields(  # Sphinx decides on the arguments
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Append the comment of each field of a dataclass to its docstring."""
    del app, what, name, options
    if isinstance(obj, type) and dataclasses.is_dataclass(obj) and "Attributes:" not in lines:
        names = {field.name for field in dataclasses.fields(obj)}
        found = [(field, text) for field, text in FIELD.findall(inspect.getsource(obj)) if field in names]
        if found:
            lines += ["", "Attributes:", *(f"    {field}: {text}" for field, text in found), ""]
