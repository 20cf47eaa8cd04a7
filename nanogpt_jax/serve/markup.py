"""HTML that is made here: elements from words, and a page around them.

What is not `Markup` is text and is escaped, so nothing that a run or a model says becomes markup.
A page has no script and no address outside the server; its style is the file beside this one.
"""

from __future__ import annotations

import html

STYLE_PATH = "/page.css"
VOID = ("link", "meta")  # elements without an end


class Markup(str):
    """Text that is HTML already."""


def tag(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element; `class_` is written class, and `aria_label` aria-label."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: tuple[str, ...] | list[Markup], between: str = "") -> Markup:
    """Children one after the other, those that are text escaped."""
    written = (each if isinstance(each, Markup) else html.escape(each) for each in children)
    return Markup(between.join(written))


def page(title: str, *body: str) -> str:
    """A whole document."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href=STYLE_PATH),
        tag("link", rel="icon", href="data:,"),  # else every browser asks for one that is not there
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"
