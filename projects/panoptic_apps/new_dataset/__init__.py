"""A config for a data set of one's own, derived from a base."""
