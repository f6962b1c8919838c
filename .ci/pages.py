"""Hook of mkdocs: pages that lie outside docs/ in the repository, and links between all pages as they stand there.

So one text serves the repository and the site. A link to a file that the site does not have is left as its text.
"""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# page of the site: file of the repository
OUTSIDE = {
    "index.md": "README.md",
    "configuration.md": "config/README.md",
    "changes.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
PAGES = {source: page for page, source in OUTSIDE.items()}
LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]+)\)")


def on_files(files, config):
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, **_):
    source = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def in_site(link):
        text, target = link.groups()
        path, hash, anchor = target.partition("#")
        if not path or ":" in path:
            return link[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if path in PAGES or path.startswith("docs/"):
            return f"{text}({PAGES.get(path, path.removeprefix('docs/'))}{hash}{anchor})"
        # a file that is not there is left for mkdocs to refuse
        return text[1:-1] if (ROOT / path).exists() else link[0]

    return LINK.sub(in_site, markdown)
