"""The table of defenses. To add one: write the file, add its card, write its test."""

from simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "none": Card(
        target="defenses.none:NoDefense",
        summary="no defense: what is released is what was computed",
    ),
}
