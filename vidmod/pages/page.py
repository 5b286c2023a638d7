"""A report: one self-contained HTML page about one timeline, for a reviewer or for the person whose video it is.

It opens from disk and reaches for nothing: a Content-Security-Policy (https://www.w3.org/TR/CSP3/) allows its own
style and script by their hashes, pictures that it holds itself, and the one video that it was made for. Text from
strangers is escaped by the templates and set as text by the script.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources

import jinja2
import markupsafe

from vidmod._version import __version__
from vidmod.pages import words
from vidmod.pages.model import report_of
from vidmod.pages.public import public_of
from vidmod.pages.shots import Shot
from vidmod.timeline import Json, Timeline

# In this order they are one script.
_SCRIPTS = ("document.js", "review.js", "scores.js", "chart.js", "player.js", "cards.js", "report.js")


def report_html(
    timeline: Timeline,
    *,
    shots: Mapping[str, Sequence[Shot]],
    video: str | None,
    warnings: Sequence[str] = (),
    public: bool = False,
    now: datetime,
) -> str:
    """The page; text that UTF-8 can encode, whatever the timeline holds.

    Args:
        shots: A segment's id to pictures of it.
        video: What a `<video>` gets as its source: a relative or `file:` URL, percent-encoded. None for no player.
        warnings: What whoever reads it must be told first.
        public: For the person whose video it is: reasons and times, and nothing of how they were found: no scores,
            thresholds, models, pictures, player or decisions.
        now: When it is made.
    """
    document = "".join(timeline.dumps()).encode("utf-8", "replace")
    digest = hashlib.sha256(document).hexdigest()
    style = _file("report.css")
    if public:
        page = public_of(timeline, digest=digest, now=now)
        text = _render("public.html", page=page, style=_verbatim(style), policy=_security(style, "", None))
    else:
        script = '"use strict";\n' + "\n".join(_file(name) for name in _SCRIPTS)
        text = _render(
            "report.html",
            page=report_of(timeline, shots, video=video, warnings=warnings, digest=digest, now=now),
            video=video,
            version=__version__,
            style=_verbatim(style),
            script=_verbatim(script),
            policy=_security(style, script, video),
            payload=base64.b64encode(gzip.compress(document, mtime=0)).decode(),
        )
    return text.encode("utf-8", "replace").decode()


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vidmod.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = words.plain
    environment.filters["data"] = _data
    return environment


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(values)


@functools.cache
def _file(name: str) -> str:
    return resources.files("vidmod.pages").joinpath("templates", name).read_text("utf-8")


def _verbatim(text: str) -> markupsafe.Markup:
    """The package's own style or script; never anything of a timeline."""
    return markupsafe.Markup(text)  # noqa: S704


def _data(value: Json) -> markupsafe.Markup:
    """JSON for a `<script>` that does not run: no `<` in it could end that element."""
    text = json.dumps(value, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return markupsafe.Markup(text)  # noqa: S704


def _security(style: str, script: str, video: str | None) -> str:
    """The page's Content-Security-Policy."""
    rules = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {_source_hash(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if script:
        rules.append(f"script-src {_source_hash(script)}")
    if video is not None:
        # A page that was opened from disk has no origin that 'self' could mean.
        rules.append("media-src 'self' file:")
    return "; ".join(rules)


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
