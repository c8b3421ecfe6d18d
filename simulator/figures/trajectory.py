"""The whole life of a server: training, each request with who made it, what it cost, and what it gave away."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from palimpsest.simulator.figures.style import (
    INK,
    PALE,
    RULE,
    defense_colour,
    describe,
    heading,
    heading_inches,
    save,
    spread,
)
from palimpsest.simulator.figures.titles import metric_of
from palimpsest.simulator.results.chains import Told, chain_of, followed_attack, story, told_of
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult, Round
from palimpsest.simulator.results.verdicts import defense_of, unlearning_of

_WIDTH, _LEFT, _RIGHT = 9.6, 0.75, 2.35
_TALL = {"utility": 2.3, "success": 1.35, "epsilon": 1.1}
_BETWEEN, _NAMES, _FOOT = 0.34, 0.62, 0.5
"""Inches: between panels, above them for the names of who asked, below them."""
_APART = 0.013
"""Width of a letter of a name, in shares of the panel."""


@dataclass(frozen=True)
class Life:
    """One arm's server.

    Attributes:
        label: of its defense.
        models: all that it made, in order, working models left out.
        requests: what is told of those that were accepted.
    """

    label: str
    arm: ArmResult
    models: tuple[Round, ...]
    requests: tuple[Told, ...]

    @property
    def ink(self) -> str:
        """One colour a defense."""
        return defense_colour(self.arm.defense.kind)

    def end_of(self, number: int) -> int:
        """Step of the model that a request ended in."""
        return max(model.step or 0 for model in self.models if model.request == number)

    def back(self, number: int, round: int) -> int | None:
        """Step after which the client of a request took part again; None where the server's life ended before."""
        left = self.end_of(number)
        later = [m.step or 0 for m in self.models if (m.step or 0) > left and m.phase == "training" and m.round > round]
        return later[0] - 1 if later else None


def trajectory(run: RunFiles, variant: str) -> list[Path]:
    """A figure a way of unlearning whose requests are a chain; one line a defense, of the first seed."""
    arms = [arm for arm in run.arms if arm.variant == variant and arm.is_chain]
    ways: dict[str, dict[str, Life]] = {}
    for arm in arms:
        lives = ways.setdefault(unlearning_of(arm, run.arms), {})
        defense = defense_of(arm, run.arms) or "no defense"
        models = tuple(m for m in run.files(arm).rounds() if m.phase != "working" and m.step is not None)
        told = tuple(told_of(row) for row in chain_of(arm))
        if defense not in lives and told and any(model.request for model in models):
            lives[defense] = Life(defense, arm, models, told)
    drawn = []
    for way, lives in ways.items():
        if lives:
            several = len({arm.seed for arm in arms}) > 1
            figure = draw(way, list(lives.values()), variant, several)
            name = "-".join(part for part in (variant, way.replace(", ", "-").replace(" ", "-")) if part)
            drawn.append(save(figure, run.directory.figure("trajectory", name)))
    return drawn


def draw(way: str, lives: Sequence[Life], variant: str, several: bool) -> Figure:
    """Utility, the attack's success and epsilon over all models that the server made."""
    private = any(model.epsilon is not None for life in lives for model in life.models)
    attack = followed_attack([life.arm for life in lives])
    panels = ["utility", *(["success"] if attack else []), *(["epsilon"] if private else [])]
    title = story([life.arm for life in lives], [life.label for life in lives], way)
    title = f"{variant}: {title}" if variant else title
    detail = (
        "Every model that the server made, in order; shaded: unlearning, which begins below the axis where it starts "
        "anew. Dotted: a retraining without what is gone, that nobody sees. Dots: what the attack gets of each "
        "request; ticks: without a model."
        + (" Rings: epsilon of those who leave." if private else "")
        + (" First seed." if several else "")
    )
    head = heading_inches(_WIDTH, title, detail)
    height = head + _NAMES + sum(_TALL[panel] + _BETWEEN for panel in panels) - _BETWEEN + _FOOT
    figure = Figure(figsize=(_WIDTH, height))
    heading(figure, title, detail)
    describe(figure, f"{title}. {' '.join(map(_words, lives))}")
    top, last = height - head - _NAMES, max(model.step or 0 for life in lives for model in life.models)
    for panel in panels:
        place = (_LEFT / _WIDTH, (top - _TALL[panel]) / height, 1 - (_LEFT + _RIGHT) / _WIDTH, _TALL[panel] / height)
        axes = figure.add_axes(place)
        _frame(axes, lives[0], last)
        if panel == "utility":
            _utility(axes, lives)
            _names(axes, lives[0], last)
        elif panel == "success":
            _success(axes, lives, attack)
        else:
            _epsilon(axes, lives)
        if panel == panels[-1]:
            axes.set_xlabel("models that the server made")
        else:
            axes.tick_params(labelbottom=False)
        top -= _TALL[panel] + _BETWEEN
    return figure


def _words(life: Life) -> str:
    """The same in words: utility after each request, beside a retraining's."""
    said = []
    for told in life.requests:
        worth = "" if told.after is None else f" utility {told.after:.2f}"
        beside = "" if told.retrained is None else f" (retrained {told.retrained:.2f})"
        said.append(f"{told.words}:{worth}{beside}" if worth else told.words)
    return f"With {life.label}: {'; '.join(said)}."


def _end(last: int) -> float:
    """Where the axis of steps ends: a little beyond the last model, so that what follows it has room."""
    return max(1.0, 1.03 * last)


def _frame(axes: Axes, life: Life, last: int) -> None:
    """The axis of steps, each request's end, and shades where the server unlearned."""
    axes.set_xlim(0, _end(last))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for told in life.requests:
        steps = [m.step or 0 for m in life.models if m.request == told.number]
        axes.axvspan(min(steps) - 1, max(steps), color=RULE, alpha=0.35, linewidth=0, zorder=0)
        axes.axvline(min(steps) - 1, color=PALE, linewidth=0.8, zorder=0)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _names(axes: Axes, life: Life, last: int) -> None:
    """Who asked for what, above the line where it arrived, in rows so that no two overlap; and who came back."""
    marks: list[tuple[int, str]] = []
    for told in life.requests:
        begins = min(m.step or 0 for m in life.models if m.request == told.number) - 1
        marks.append((begins, told.words))
        if told.rejoined is not None and (back := life.back(told.number, told.rejoined)) is not None:
            marks.append((back, f"{told.name} returns"))
            axes.axvline(back, color=PALE, linewidth=0.8, linestyle=":", zorder=0)
    ends = [-1.0] * 3
    for step, words in sorted(marks):
        wide = _APART * len(words)
        here = step / _end(last)
        left = min(here, 1.0 + _RIGHT / (_WIDTH - _LEFT - _RIGHT) - wide)
        line = next((line for line, end in enumerate(ends) if left > end), None)
        if line is None:  # of a long chain not every name has room
            continue
        ends[line] = left + wide
        axes.annotate(
            words,
            xy=(here, 1.0),
            xytext=(left, 1.04 + 0.075 * line),
            xycoords="axes fraction",
            textcoords="axes fraction",
            size=8,
            va="bottom",
            color=INK,
        )


def _utility(axes: Axes, lives: Sequence[Life]) -> None:
    """Every model's utility, and dotted what a retraining has after each request."""
    for life in lives:
        known = [(m.step or 0, m.utility) for m in life.models if m.utility is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=life.ink, linewidth=1.6)
        steps = [life.end_of(told.number) for told in life.requests]
        stops = [*steps[1:], axes.get_xlim()[1]]
        for told, begin, stop in zip(life.requests, steps, stops, strict=True):
            if told.retrained is not None:
                axes.plot([begin, stop], [told.retrained] * 2, ":", color=life.ink, linewidth=1.4)
    trained = [m.utility for life in lives for m in life.models if m.utility is not None and m.round > 0]
    if trained:
        low, high = min(trained), max(trained)
        margin = 0.06 * max(high - low, 0.05)
        axes.set_ylim(low - margin, high + margin)
    axes.set_ylabel(f"test {metric_of([life.arm for life in lives])}")
    after = [(life, life.requests[-1].after) for life in lives]
    ends = [(f"{life.label}  {value:.2f}", value, life.ink) for life, value in after if value is not None]
    _beside(axes, ends, _TALL["utility"])


def _success(axes: Axes, lives: Sequence[Life], attack: str) -> None:
    """The attack's success on each request, where it ended; ticks: chance."""
    shown = []
    for life in lives:
        for told in life.requests:
            at, found = life.end_of(told.number), told.attacks.get(attack)
            if found is None or found.success is None:
                continue
            axes.plot([at], [found.success], "o", color=life.ink, markersize=6, clip_on=False, zorder=3)
            if found.floor is not None:
                axes.plot([at], [found.floor], "_", color=PALE, markersize=11, markeredgewidth=1.6, zorder=2)
            shown.append(found)
    low = min([0.0, *(min(f.success or 0.0, f.floor or 0.0) for f in shown)])
    axes.set_ylim(max(-1.0, low - 0.03), 1.0)
    measure = next((found.measure for found in shown), "")
    axes.set_ylabel("success")
    axes.text(1.02, 0.98, f"{attack}:\n{measure}", transform=axes.transAxes, size=8, va="top", ha="left", color=INK)


def _epsilon(axes: Axes, lives: Sequence[Life]) -> None:
    """The highest epsilon so far, and rings for those who leave."""
    ends = []
    for life in lives:
        known = [(m.step or 0, m.epsilon) for m in life.models if m.epsilon is not None]
        if not known:
            continue
        axes.plot(*zip(*known, strict=True), color=life.ink, linewidth=1.6)
        for told in life.requests:
            if told.leaver is not None:
                at = life.end_of(told.number)
                axes.plot([at], [told.leaver], "o", mfc="white", mec=life.ink, markersize=5, clip_on=False, zorder=3)
        stay = life.requests[-1].retained
        words = f"{life.label}  {known[-1][1]:.1f}" if stay is None else f"{life.label}  {stay:.1f} for who stays"
        ends.append((words, known[-1][1], life.ink))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("epsilon")
    _beside(axes, ends, _TALL["epsilon"])


def _beside(axes: Axes, ends: Sequence[tuple[str, float, str]], inches: float) -> None:
    """Labels at the right end of a panel so many inches high, kept apart."""
    low, high = axes.get_ylim()
    ranked = sorted(ends, key=lambda end: end[1])
    shares = [(value - low) / (high - low) for _, value, _ in ranked]
    places = spread(shares, 0.16 / inches)
    over = max(0.0, max(places, default=0.0) - 0.97)
    for (words, _, ink), place in zip(ranked, places, strict=True):
        axes.text(1.02, place - over, words, transform=axes.transAxes, size=8, va="center", color=ink)
