"""What `parsimony datasets check` looks at and draws."""
