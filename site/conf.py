"""Sphinx's settings. `python3 course.py site` lays out the sources beside this file's copy."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # reader.py

from babel import Locale

from rlhf_lab import __version__, translation

project = "rlhf_lab"
author = "rlhf_lab contributors"
copyright = "rlhf_lab contributors: code Apache-2.0, texts and figures CC BY 4.0"
release = __version__
language = translation.tr("en").replace("-", "_")  # <html lang>, and Sphinx's own words
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reader", "bigrams"]

nb_execution_mode = "off"  # the committed outputs are what the tests have checked
nb_custom_formats = {".ipynb": ["reader.read_notebook", {}, False]}
nb_render_markdown_format = "myst"
nb_code_prompt_show = nb_code_prompt_hide = "Code"
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
default_role = "code"
suppress_warnings = ["myst.header"]  # our notebooks go from a title to small headings

html_theme = "furo"
html_title = "rlhf_lab"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["front.css", "page.css"]
html_js_files = [
    (name, {"defer": "defer"})
    for name in (
        *(["messages.js"] if language != "en" else []),
        "parts.js",
        "optimum.js",
        "explorer.js",
        "cockpit.js",
        "engine.js",
        "run.js",
        "collapse.js",
        "page.js",
    )
]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # it would fetch pages, which a page opened as a file may not
html_theme_options = {
    "sidebar_hide_name": False,
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#6cc3f5", "color-brand-content": "#6cc3f5"},
}
templates_path = ["templates"]
html_sidebars = {
    "**": [
        f"sidebar/{part}.html"
        for part in ("brand", "languages", "search", "scroll-start", "navigation", "scroll-end")
    ]
}
html_context = {
    "edition": translation.language(),
    "editions": [(code, Locale.parse(code).display_name) for code in translation.LANGUAGES],
}
