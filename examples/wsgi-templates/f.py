"""Pages from templates that lie beside the code."""

from pathlib import Path
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, select_autoescape

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape()
)


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    page = templates.get_template("greeting.html").render(name=query.get("name", ["world"])[0])
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page.encode()]
