"""A cascade: a cheap reader looks at every row, the model only at those that decide which rows are nearest."""
