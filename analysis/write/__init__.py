"""Tables for people and programs, and the report."""
