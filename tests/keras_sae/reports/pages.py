"""What tests look for in a page: its elements, and what its script knows."""

import html.parser
import json

NEVER_CLOSED = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """The elements of a page: (name, attributes, text within, elements within), and the JSON of its script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        self.close()
        assert self._open == [], "elements that are not closed"
        (self.data,) = (json.loads(found["text"]) for found in self.all("script") if "id" in found["attributes"])

    def handle_starttag(self, tag, attributes):
        found = {"name": tag, "attributes": dict(attributes), "text": "", "within": [e["name"] for e in self._open]}
        self.elements.append(found)
        if tag not in NEVER_CLOSED:
            self._open.append(found)

    def handle_endtag(self, tag):
        assert self._open.pop()["name"] == tag

    def handle_data(self, data):
        for found in self._open:
            found["text"] += data

    def all(self, name):
        return [found for found in self.elements if found["name"] == name]
