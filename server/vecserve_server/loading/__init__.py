"""Loading of models: from files to a warmed-up, measured, checked graph."""
