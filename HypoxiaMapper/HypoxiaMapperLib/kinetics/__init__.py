"""Input functions, tissue and MRI signal models, as pure functions and as models for the fitting engine."""
