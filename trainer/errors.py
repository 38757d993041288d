"""Errors that a user can cause and fix."""

from __future__ import annotations


class TrainerError(ValueError):
    """A failure that one line explains: what happened, what was expected and what to do."""


class ConfigError(TrainerError):
    """An option outside its range, or one that contradicts another option or the dataset."""
