"""Training and judging the learned maps: ``hypoxia train``, ``hypoxia evaluate``."""
