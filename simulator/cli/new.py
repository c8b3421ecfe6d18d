"""``palimpsest new``: a package that brings one plug-in, with its entry point and a test of its contract.

What is written stands in ``skeleton/``. What takes time to import is imported within.
"""

import keyword
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources, util
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.simulator.cli.console import OUT, fail, input_errors

if TYPE_CHECKING:
    from palimpsest.simulator.scenario.registry import Group


@dataclass(frozen=True)
class PlugIn:
    """What can be brought.

    Attributes:
        group: of entry points.
        table: of ``palimpsest list`` that shows it.
        usage: a sentence on how it comes into a run.
        taken: the names that there are.
        target: what the entry point names; empty: a class that is called as the plug-in is.
        needs_place: whether the contract is checked in a directory.
        column: whether it names a column of tables, which has no hyphens.
        test: file of ``skeleton/`` that its test is made of.
    """

    group: str
    table: str
    usage: str
    taken: Callable[[], Collection[str]]
    target: str = ""
    needs_place: bool = False
    column: bool = False
    test: str = "test.py.txt"


def _models() -> Collection[str]:
    from palimpsest.simulator.world.models.kinds import names

    return names()


def _sources() -> Collection[str]:
    from palimpsest.simulator.world.data.datasets import MNIST_LIKE
    from palimpsest.simulator.world.data.sources import cards

    return {*cards(), MNIST_LIKE}


def _measures() -> Collection[str]:
    from palimpsest.simulator.attack_metrics.measures import cards

    return cards()


def _unlearning_measures() -> Collection[str]:
    from palimpsest.simulator.unlearning_metrics.measures import cards

    return cards()


def _answers() -> Collection[str]:
    from palimpsest.simulator.attack_metrics.answers import names

    return names()


def _figures() -> Collection[str]:
    from palimpsest.simulator.figures import cards

    return cards()


def _methods(group: "Group") -> Collection[str]:
    from palimpsest.simulator.scenario.registry import names

    return names(group)


PLUG_INS: Mapping[str, PlugIn] = {
    "model": PlugIn("palimpsest.models", "models", 'A scenario names it: `[model] kind = "{}"`.', _models, "CARD"),
    "source": PlugIn(
        "palimpsest.sources", "datasets", 'A scenario names it: `[data] source = "{}"`.', _sources, "load"
    ),
    "attack": PlugIn(
        "palimpsest.attacks", "attacks", 'A scenario names it: `[[attack]] kind = "{}"`.', partial(_methods, "attack")
    ),
    "unlearner": PlugIn(
        "palimpsest.unlearners",
        "unlearning",
        'A scenario names it: `[[unlearning]] method = "{}"`.',
        partial(_methods, "unlearning"),
        needs_place=True,
    ),
    "defense": PlugIn(
        "palimpsest.defenses",
        "defenses",
        'A scenario names it: `[[defense]] kind = "{}"`.',
        partial(_methods, "defense"),
    ),
    "measure": PlugIn(
        "palimpsest.attack_measures",
        "measures",
        "Every attack that reconstructs is scored by it, in the column `{}`.",
        _measures,
        "MEASURE",
        column=True,
    ),
    "unlearning-measure": PlugIn(
        "palimpsest.unlearning_measures",
        "measures",
        "Every unlearned model is measured by it, in the column `{}`.",
        _unlearning_measures,
        "MEASURE",
        needs_place=True,
        column=True,
    ),
    "unlearning-distance": PlugIn(
        "palimpsest.unlearning_distances",
        "measures",
        "Every unlearned model is compared with retrainings by it, in `{}_to_retrained`.",
        _unlearning_measures,
        "MEASURE",
        needs_place=True,
        column=True,
    ),
    "answer": PlugIn(
        "palimpsest.answers",
        "answers",
        'An attack whose card says `promises="{}"` answers so.',
        _answers,
        "CARD",
        test="test_answer.py.txt",
    ),
    "figure": PlugIn(
        "palimpsest.figures", "figures", "Every run draws it as `figures/{}.png`.", _figures, "draw", needs_place=True
    ),
    "strategy": PlugIn(
        "palimpsest.strategies",
        "strategies",
        'A scenario names it: `[training] strategy = "{}"`.',
        partial(_methods, "strategy"),
        needs_place=True,
    ),
}
"""By what it is called on the command line."""


def new(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(PLUG_INS)}.")],
    name: Annotated[str, typer.Argument(help="As scenarios will name it: small letters, digits and hyphens.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write, which must not exist; ./NAME if left out.")] = None,
) -> None:
    """Write a package that brings a plug-in of your own: its file, its entry point and a test of its contract."""
    with input_errors():
        if kind not in PLUG_INS:
            fail(f"there is no plug-in of the kind {kind!r}; give one of {', '.join(PLUG_INS)}")
        place = out or Path(name)
        _check_name(kind, name)
        _write(place, files_of(kind, name))
    OUT.print(f"written: {place}", markup=False, soft_wrap=True)
    table = PLUG_INS[kind].table
    said = f"next: cd {place} && pip install -e . && pytest && palimpsest list {table}"
    OUT.print(said, markup=False, soft_wrap=True)


def files_of(kind: str, name: str) -> dict[str, str]:
    """Text by file name of the package.

    Args:
        kind: one of ``PLUG_INS``.
        name: of the plug-in.
    """
    plug_in, module = PLUG_INS[kind], _module(name)
    entry, check = module if plug_in.column else name, f"check_{_module(kind)}"
    class_name = "".join(part.capitalize() for part in name.split("-"))
    fields = {
        "name": name, "module": module, "kind": kind, "entry": entry, "group": plug_in.group, "table": plug_in.table,
        "Article": _with_article(kind).partition(" ")[0].capitalize(), "usage": plug_in.usage.format(entry),
        "class_name": class_name, "target": plug_in.target or class_name,
        "imports": f"from palimpsest.simulator.testing import {check}", "fixture": "",
        "check": f'{check}("{entry}")',
    }  # fmt: skip
    if plug_in.needs_place:
        fields["imports"] = f"from pathlib import Path\n\n{fields['imports']}"
        fields |= {"fixture": "tmp_path: Path", "check": f'{check}("{entry}", tmp_path)'}
    skeleton = resources.files("palimpsest.simulator.cli").joinpath("skeleton")
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"{module}.py": f"{kind}.py.txt",
        f"test_{module}.py": plug_in.test,
    }
    return {
        written: Template(skeleton.joinpath(source).read_text(encoding="utf-8")).substitute(fields)
        for written, source in sources.items()
    }


def _check_name(kind: str, name: str) -> None:
    """Refuse what cannot be the name of a plug-in, a package and a module at once."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        fail(
            f"{name!r} cannot be the name of a plug-in: give at most 40 small letters and digits that begin with a "
            f"letter, in parts joined by hyphens, such as my-{kind}"
        )
    module = _module(name)
    if name in (taken := PLUG_INS[kind].taken()) or module in taken:
        fail(f"there is {_with_article(kind)} called {name!r} already; give another name")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or _is_installed(module):
        fail(f"Python has a module or a word {module!r} already, which a package would hide; give another name")


def _is_installed(module: str) -> bool:
    """Whether ``import module`` finds something else than a folder that happens to lie here."""
    spec = util.find_spec(module)
    return spec is not None and spec.origin is not None


def _write(place: Path, files: Mapping[str, str]) -> None:
    try:
        place.mkdir(parents=True)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
    except FileExistsError:
        fail(f"{place} exists already, and nothing is overwritten; give another place with --out")
    except OSError as error:
        fail(f"{place} cannot be written: {error.strerror}; give another place with --out")


def _with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _module(name: str) -> str:
    return name.replace("-", "_")
