"""A page as a reader of HTML finds it, and what somebody without mouse or eyes would trip over."""

from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "input", "img", "br", "hr", "source", "circle", "line", "rect", "path", "polyline"}
MAY_STAY_OPEN: set[str] = set()
NEEDS_A_NAME = {"input", "select", "textarea", "progress", "meter"}
MOST_BYTES = 200_000


class Page(HTMLParser):
    """Every element with its attributes, and the text; `faults` says what is wrong with the page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source, self.elements, self.text, self.broken = text, [], "", []
        self._open: list[str] = []
        self._in_label = 0
        self.hidden_links: list[str] = []
        self.labelled_inside: set[int] = set()
        self.feed(text)
        self.close()
        self.broken += [f"<{name}> is not closed" for name in self._open]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.broken.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, dict(attrs)))
        if self._open.count("label"):
            self.labelled_inside.add(len(self.elements) - 1)
        if tag == "a" and "svg" in self._open and self.all("svg")[-1].get("role") == "img":
            self.hidden_links.append(f"<a {dict(attrs)}> is in a picture, whose inside nobody is told of")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self._open or self._open[-1] != tag:
            self.broken.append(f"</{tag}> where {self._open[-1:] or 'nothing'} is open")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open and self._open[-1] not in {"script", "style"}:
            self.text += data

    def all(self, tag, **attributes):
        """The attributes of every such element."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def value_of(self, name):
        return next(found["value"] for found in self.all("input") if found.get("name") == name)

    def faults(self):
        """What no page may have."""
        return [
            *self.broken, *self._ids(), *self._names(), *self._pictures(), *self._frame(), *self._inline(),
        ]  # fmt: skip

    def _ids(self):
        ids = [found["id"] for _, found in self.elements if "id" in found]
        twice = {one for one in ids if ids.count(one) > 1}
        yield from (f"id {one} comes twice" for one in twice)
        for _, found in self.elements:
            for name in ("for", "aria-labelledby", "aria-describedby"):
                for target in (found.get(name) or "").split():
                    if target not in ids:
                        yield f"{name}={target} names nothing"

    def _names(self):
        labelled = {found.get("for") for found in self.all("label")}
        for place, (tag, found) in enumerate(self.elements):
            if tag not in NEEDS_A_NAME or found.get("type") in {"hidden", "submit"}:
                continue
            named = found.get("id") in labelled or place in self.labelled_inside
            if not named and not {"aria-label", "aria-labelledby"} & found.keys():
                yield f"<{tag} {found}> has no label"

    def _pictures(self):
        yield from (
            f"picture {found.get('src')} has no alt" for found in self.all("img") if not found.get("alt")
        )
        for found in self.all("svg"):
            if found.get("role") not in {"img", "group"} or "aria-labelledby" not in found:
                yield "a chart has no name"
        yield from self.hidden_links

    def _frame(self):
        if len(self.all("h1")) != 1:
            yield f"{len(self.all('h1'))} main headings"
        if len(self.all("main")) != 1 or self.all("html", lang="en") == []:
            yield "no main, or no language"
        levels = [int(tag[1]) for tag, _ in self.elements if tag in {"h1", "h2", "h3", "h4"}]
        if any(after > before + 1 for before, after in pairwise(levels)):
            yield f"headings jump: {levels}"
        if any(
            not found.get("content", "").startswith("width=") for found in self.all("meta", name="viewport")
        ):
            yield "no viewport"
        if len(self.source.encode()) > MOST_BYTES:
            yield f"{len(self.source.encode())} bytes"

    def _inline(self):
        for tag, found in self.elements:
            if "style" in found or any(name.startswith("on") for name in found):
                yield f"<{tag}> has a style or a script in itself"
            for name in ("src", "href", "action"):
                target = found.get(name) or ""
                if target and not (target.startswith(("/", "#", "?")) and not target.startswith("//")):
                    yield f"<{tag}> goes elsewhere: {target}"
        if "style" in {tag for tag, _ in self.elements}:
            yield "a style sheet in the page"
        if any("src" not in found for found in self.all("script")):
            yield "a script in the page"
