"""Formulas in pages: $x$ and $$x$$, in the language of LaTeX, become MathML, which browsers draw by themselves."""

import re
from typing import Any

import markdown
from latex2mathml.converter import convert
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\$\w])\$(?! )([^$\n]+?)(?<! )\$(?!\w)"
DISPLAY = r"\$\$(.+?)\$\$"
BEFORE_ESCAPES = 185  # backslashes of formulas are no escapes of Markdown; code, at 190, has no formulas


class _Formula(InlineProcessor):
    """One pattern, whose group is LaTeX."""

    def __init__(self, pattern: str, md: markdown.Markdown, display: str):
        super().__init__(pattern, md)
        self.display = display

    def handleMatch(self, m: re.Match, data: str) -> Any:
        return self.md.htmlStash.store(convert(m[1].strip(), display=self.display)), m.start(0), m.end(0)


class Formulas(markdown.Extension):
    """The extension of Markdown, called docs.formulas:Formulas in mkdocs.yml."""

    def extendMarkdown(self, md: markdown.Markdown) -> None:
        md.inlinePatterns.register(_Formula(DISPLAY, md, "block"), "display formula", BEFORE_ESCAPES + 1)
        md.inlinePatterns.register(_Formula(INLINE, md, "inline"), "formula", BEFORE_ESCAPES)
