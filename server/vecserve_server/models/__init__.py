"""Model lifecycle and registry: what is served, in which state, and why not."""
