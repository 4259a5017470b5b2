"""The frame of every page: navigation on the left of a wide screen, above the text on a narrow one."""

import html
from dataclasses import dataclass

CSS = """\
:root { --ink: #22262b; --quiet: #5d6670; --line: #dfe3e8; --pale: #f5f7f9; --link: #0b5cad; --accent: #0072b2 }
* { box-sizing: border-box }
html { font: 17px/1.6 Georgia, "Times New Roman", serif; color: var(--ink); background: white; -webkit-text-size-adjust: 100% }
body { margin: 0 }
nav, h1, h2, h3, h4, th, .note, .path, footer { font-family: system-ui, "Helvetica Neue", Arial, sans-serif }
nav { font-size: 15px; padding: 14px 18px; border-bottom: 1px solid var(--line); background: var(--pale) }
nav a { display: block; padding: 4px 0; color: var(--ink); text-decoration: none }
nav a:hover, nav a.here { color: var(--link); text-decoration: underline }
nav summary { cursor: pointer; padding: 4px 0; font-weight: 600 }
nav details details { margin-left: 12px }
nav details details summary { font-weight: 400 }
nav details details a { margin-left: 14px; font-size: 14px }
main { max-width: 58rem; margin: 0 auto; padding: 8px 18px 60px; overflow-wrap: break-word }
main.wide { max-width: 100rem }
main > p, main > ul, main > ol { max-width: 46rem }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 1.1em 0 0.5em }
h2 { font-size: 1.3rem; margin: 2em 0 0.5em; padding-top: 0.4em; border-top: 1px solid var(--line) }
h3 { font-size: 1.06rem; margin: 1.6em 0 0.4em }
a { color: var(--link) }
code, pre { font: 13.5px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }
code { background: var(--pale); padding: 1px 4px; border-radius: 3px; overflow-wrap: anywhere }
pre { background: var(--pale); border: 1px solid var(--line); border-radius: 4px; padding: 10px 12px; overflow-x: auto; margin: 0.9em 0 }
pre code { background: none; padding: 0; overflow-wrap: normal }
pre.equation { border: 0; border-left: 3px solid var(--accent); border-radius: 0 }
pre.output { background: white; border-left: 3px solid #c9ced4; border-radius: 0; margin-top: -0.5em }
.k { color: #8a3ffc } .s { color: #1a6e3c } .n { color: #b4470b } .c { color: #66707a; font-style: italic }
.f { color: #0b5cad; font-weight: 600 } .b { color: #0b5cad }
img { max-width: 100%; height: auto; display: block; margin: 1em auto }
.table { overflow-x: auto; margin: 1em 0 }
table { border-collapse: collapse; font-size: 15px }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-size: 14px }
td.number, th.number { text-align: right }
.sides { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 18px }
.note { color: var(--quiet); font-size: 15px }
.path { color: var(--quiet); font-size: 14px }
.exercise { border: 1px solid var(--line); border-left: 4px solid #e69f00; border-radius: 4px; padding: 2px 16px 10px; margin: 1.2em 0 }
.exercise summary, .hint summary { cursor: pointer }
del, del code { background: #fbe3d6; text-decoration: none } ins, ins code { background: #d8eef9; text-decoration: none }
footer { display: flex; justify-content: space-between; gap: 18px; margin-top: 3em; padding-top: 1em; border-top: 1px solid var(--line); font-size: 15px; flex-wrap: wrap; overflow-wrap: anywhere }
footer a { min-width: 0 }
@media (min-width: 1000px) {
  body { display: grid; grid-template-columns: 270px minmax(0, 1fr) }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-bottom: 0; border-right: 1px solid var(--line) }
  nav > details > summary { display: none }
  main { padding: 8px 40px 60px; width: 100% }
  .sides { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr) }
}
@media print { nav, footer { display: none } body { display: block } pre { white-space: pre-wrap } .sides { grid-template-columns: 1fr } }
"""


@dataclass(frozen=True)
class Page:
    """A page of the book: its file, its title and its text in HTML; ``group`` is where the navigation lists it."""

    file: str
    title: str
    body: str = ""
    group: str = ""
    wide: bool = False


def navigation(pages, here):
    """Links to all pages: those without a group first, then group by group, the one of this page open."""
    parts = [_link(page, here) for page in pages if not page.group]
    for group in dict.fromkeys(page.group for page in pages if page.group):
        own = [page for page in pages if page.group == group]
        is_open = " open" if here.group == group else ""
        links = "".join(_link(page, here) for page in own)
        parts.append(f"<details{is_open}><summary>{html.escape(group)}</summary>{links}</details>")
    return f'<nav><details class="all"><summary>Contents</summary>{"".join(parts)}</details></nav>'


def _link(page, here):
    mark = ' class="here" aria-current="page"' if page.file == here.file else ""
    return f'<a href="{page.file}"{mark}>{html.escape(page.title)}</a>'


def whole(page, pages):
    """The HTML of a page in its frame, with links to the ones before and after it."""
    order = [one.file for one in pages]
    place = order.index(page.file)
    before = pages[place - 1] if place else None
    after = pages[place + 1] if place + 1 < len(pages) else None
    ends = [f'<a href="{before.file}">← {html.escape(before.title)}</a>' if before else "<span></span>"]
    ends.append(f'<a href="{after.file}">{html.escape(after.title)} →</a>' if after else "<span></span>")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(page.title)} · LLM from scratch, twice</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
{navigation(pages, page)}
<main{' class="wide"' if page.wide else ''}>
{page.body}
<footer>{ends[0]}{ends[1]}</footer>
</main>
<script>if (matchMedia("(min-width: 1000px)").matches) document.querySelector("nav details").open = true</script>
</body>
</html>
"""
