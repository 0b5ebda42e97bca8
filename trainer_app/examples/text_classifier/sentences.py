"""Short English sentences, right and wrong, made by a grammar: data that needs no download, in the manner of CoLA."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

COUNT: Final = 3000
ANIMALS: Final = ("cat", "dog", "horse", "bird", "fox", "cow", "goat", "frog", "bear", "duck")
ADJECTIVES: Final = ("old", "red", "small", "quick", "quiet", "tall")
VERBS: Final = ("see", "like", "follow", "know", "hear", "help")


def write_sentences(folder: Path) -> None:
    """Write sentences.tsv: `sentence` and `label`, 1 if it is right, 0 if two neighbouring words are swapped."""
    random = np.random.RandomState(0)  # its stream is frozen (NEP 19)
    lines = ["sentence\tlabel"]
    for number in range(COUNT):
        words = _draw_sentence(random)
        if number % 2:
            at = random.randint(len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
        lines.append(f"{' '.join(words).capitalize()}.\t{1 - number % 2}")
    (folder / "sentences.tsv").write_text("\n".join(lines) + "\n")


def _draw_sentence(random: np.random.RandomState) -> list[str]:
    subject, things = _draw_noun(random), _draw_noun(random)
    return [*subject, str(random.choice(VERBS)) + "s", *things]


def _draw_noun(random: np.random.RandomState) -> list[str]:
    adjective = [str(random.choice(ADJECTIVES))] if random.rand() < 0.5 else []
    return ["the", *adjective, str(random.choice(ANIMALS))]
