"""What a job prints at its end."""


def print_summary(rows: dict[str, str]) -> None:
    """Print names and values in two columns; nothing is wrapped, so commands can be copied."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f'{name:<{width}}  {value}')
