"""Everything that the analysis finds, as tables of numbers and typed values."""
