"""What the dose-paint panel shows and does. Decisions are plain classes; Qt stands in ``widget.py`` alone."""
