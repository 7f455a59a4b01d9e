"""Detectors: one architecture in several structures, registered as students and teachers."""
