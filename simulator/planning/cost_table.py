"""A table of arms on terminals of any width: an arm's id is never broken, so that it can be copied."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = "  "


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        name: of the arm, or of what arms share.
        cells: one for each header.
        style: of rich.
    """

    name: str
    cells: tuple[str, ...]
    style: str = ""


@dataclass
class CostTable:
    """Figures in columns; where a name leaves no room for them, they stand below it.

    Attributes:
        headers: of the columns; words of one header stand below each other.
        lines: the arms, and what they share.
        total: sentences that stand below.
    """

    headers: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    total: list[str] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The table as lines of text."""
        heads = [header.split() for header in self.headers]
        widths = [max(*(len(line.cells[k]) for line in self.lines), *map(len, head), 1) for k, head in enumerate(heads)]
        room = options.max_width - sum(widths) - len(_GAP) * len(widths)
        wide = max((len(line.name) for line in self.lines if len(line.name) <= room), default=room)
        for row in range(max(map(len, heads))):
            words = [head[row] if row < len(head) else "" for head in heads]
            yield _text(" " * wide + _figures(words, widths), "bold")
        yield _text("─" * (wide + sum(widths) + len(_GAP) * len(widths)), "dim")
        for line in self.lines:
            figures = _figures(line.cells, widths)
            if len(line.name) > wide:
                yield _text(line.name, line.style)
                yield _text(" " * wide + figures, line.style)
            else:
                yield _text(line.name.ljust(wide) + figures, line.style)
        yield Text("")
        for sentence in self.total:
            yield Text(sentence)


def _text(text: str, style: str) -> Text:
    return Text(text.rstrip(), style=style, no_wrap=True, overflow="ignore")


def _figures(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(_GAP + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
