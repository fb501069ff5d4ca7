"""Labels from elsewhere: Neuronpedia's explanation exports, and tables of index and label."""

from __future__ import annotations

from saefilter.errors import SaefilterError
from saefilter.rows.read import Source

INDEX_NAMES = ("index", "feature", "feature_index", "latent")
LABEL_NAMES = ("description", "label", "explanation")


def read_labels(source: Source) -> dict[int, str]:
    """Feature -> label, from JSON, JSONL (also compressed), CSV or Parquet with a column of indices
    and one of labels, as in Neuronpedia's exports (`index`, `description`).

    Of several labels for one feature the first counts. Raises SaefilterError when a row has neither.
    """
    labels: dict[int, str] = {}
    for row in source.rows():
        where = f"{row.file or source.path}:{row.line}"
        if row.data is None:
            raise SaefilterError(row.error or "unreadable", where=where)
        index = next((row.data[name] for name in INDEX_NAMES if name in row.data), None)
        label = next((row.data[name] for name in LABEL_NAMES if name in row.data), None)
        if index is None or label is None:
            raise SaefilterError(
                f"the columns are {', '.join(list(row.data)[:8])}",
                where=where,
                remedy=f"One of {', '.join(INDEX_NAMES)} and one of {', '.join(LABEL_NAMES)} "
                "is needed.",
            )
        try:
            number = int(str(index))
        except ValueError as error:
            raise SaefilterError(f"{index!r} is no feature index", where=where) from error
        if text := " ".join(str(label).split()):
            labels.setdefault(number, text)
    if not labels:
        raise SaefilterError("no labels in it", where=str(source.path))
    return labels
