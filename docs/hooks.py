"""For the site: a link to a file outside of docs/ becomes its path in the repository."""

import re

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./(?!.*\.\./)([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    """Called by mkdocs for every page, before it is rendered; returns the page's text."""
    if page.file.src_uri.count("/"):
        return markdown
    return _OUTSIDE.sub(r"\1 (`\2` in the repository)", markdown)
