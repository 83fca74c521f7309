"""The parts of a model's card: what ``card.py`` puts together."""
