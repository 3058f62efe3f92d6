"""Examples in docstrings, lines that begin with >>>, are code in the reference."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^(?:>>>|\.\.\.) .*\n?)+(?:^(?!\s*$).*\n?)*", flags=re.MULTILINE)


class Examples(griffe.Extension):
    """The extension of Griffe that mkdocs.yml names: Markdown takes >>> for quotations within quotations."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```\n", obj.docstring.value)
