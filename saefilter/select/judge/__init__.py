"""A language model behind an OpenAI-compatible endpoint that reads every row and says how harmful it is.

`judge.py` has the way from conversations to judgements; the strategy of `filter` is a thin layer on it.
"""
