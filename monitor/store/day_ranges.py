"""Rows of many brands, each from a day of its own on, as ranges of a primary key (brand, day, ...)."""


def days_since(starts: str, table: str, *, postgresql: bool) -> str:
    """FROM clause: the rows `d` of `table` of each brand of `starts` (a relation brand, since) from its day on.

    SQLite does not turn a cross join around. PostgreSQL does, and as it guesses a third of all days to be wanted it
    would read the whole table for the last three: OFFSET 0 keeps the inner query apart.
    """
    of_brand = f"d.brand = {starts}.brand AND d.day >= {starts}.since"
    if postgresql:
        return f"FROM {starts} CROSS JOIN LATERAL (SELECT * FROM {table} AS d WHERE {of_brand} OFFSET 0) AS d"  # noqa: S608  constants
    return f"FROM {starts} CROSS JOIN {table} AS d ON {of_brand}"
