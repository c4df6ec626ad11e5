"""Help texts from docstrings."""

from turnstream_service.help_text import reflow

DOCSTRING = """Do something
    that is long.

    It has
    two lines.

    Examples:
      turnstream do
      turnstream do \\
        more
    """


def test_paragraphs_are_joined_and_examples_are_not() -> None:
    assert reflow(DOCSTRING).replace("[dim]", "").replace("[/dim]", "") == (
        "Do something that is long.\n\nIt has two lines.\n\nExamples:\n  turnstream do\n  turnstream do \\\n    more"
    )
