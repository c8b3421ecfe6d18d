"""The figures that a run has on disk, with what each shows in words."""

from palimpsest.simulator.figures import cards
from palimpsest.simulator.results.html_page import Picture
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.verdicts import headline


def pictures(run: RunFiles) -> list[Picture]:
    """Those that are drawn, in the order of the table of figures; a variant's in the order of the scenario.

    What a figure shows is what it says of itself; of one that says nothing, its card's summary and what the run found.
    """
    from palimpsest.simulator.figures.style import alternative_text  # with Matplotlib, which takes a while

    run, found = run.scored, []
    variants = run.variants()
    for name, card in cards().items():
        for variant in [""] if card.each == "run" else variants:
            path = run.directory.figure(name, variant)
            if path.is_file():
                arms = [arm for arm in run.arms if not variant or arm.variant == variant]
                of_variant = f" ({variant})" if variant else ""
                said = alternative_text(path) or f"{card.summary}{of_variant}. {headline(arms)}."
                found.append(Picture(path, path.stem, said))
    return found
