"""Images to hypoxia map: volumes, SUV, common grid, methods. Research use only."""

__version__ = "0.1.0"
