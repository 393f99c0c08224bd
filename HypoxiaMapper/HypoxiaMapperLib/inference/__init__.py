"""Trained models: from images and a GTV to a map with its uncertainty, on the device at hand."""
