"""The files of a sweep as typed tables."""
