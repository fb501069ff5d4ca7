"""What a filtering run did and why: the data of the report, and its faces."""
