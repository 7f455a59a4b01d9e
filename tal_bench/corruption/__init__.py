"""Corruptions of videos, and the features of corrupted videos.

``pixels`` and ``features`` declare corruptions in the registry of ``registry``. ``action_runs`` selects the
corrupted frames and the feature steps that depend on them. ``frames`` corrupts a stream of frames,
``extract`` extracts the features that change, and ``store`` keeps them in the user's cache.
"""
