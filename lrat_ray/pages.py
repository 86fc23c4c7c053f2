"""What every HTML page of ours is made of: templates that escape, a style sheet (page.css), lists of facts (facts.html.j2)."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """The templates of `package` and the common ones. All text is escaped: it comes from models that nobody vouches for."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates"), PackageLoader("lrat_ray", "templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
