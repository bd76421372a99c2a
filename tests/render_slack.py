"""Draws the example messages as a page that looks like Slack, to be judged by eye, and writes the golden text anew:

python tests/render_slack.py page.html tests/golden/slack_messages.txt

What is drawn is Block Kit as Slack documents it: mrkdwn only where a block says mrkdwn, entities decoded once.
"""

import html
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from example_messages import examples

from monitor.messages import as_text

_STYLE = """
body { font: 15px/1.46 Lato, 'Noto Color Emoji', sans-serif; color: #1d1c1d; margin: 24px; width: 640px }
.message { display: flex; gap: 8px; margin-bottom: 28px } .avatar { width: 36px; height: 36px; border-radius: 4px;
background: #1264a3; color: #fff; display: grid; place-items: center; font-weight: 900 }
.body { flex: 1 } .name { font-weight: 900 }
.app { background: #e8e8e8; color: #616061; font-size: 10px; border-radius: 2px; padding: 1px 3px; font-weight: 700 }
.time, .kind { color: #616061; font-size: 12px } h3 { font-size: 18px; margin: 6px 0; font-weight: 900 }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 16px; margin: 8px 0 }
.context { color: #616061; font-size: 12px; margin: 6px 0 }
blockquote { border-left: 4px solid #ddd; margin: 4px 0; padding-left: 12px } a { color: #1264a3 }
code { font: 12px 'DejaVu Sans Mono', monospace; background: #f8f8f8; border: 1px solid #ddd; border-radius: 3px;
  padding: 2px 3px; color: #e01e5a }
"""


def page(messages: Mapping[str, Mapping[str, Any]]) -> str:
    """The messages one below the other."""
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>" + "".join(
        f"<div class=kind>{html.escape(title)}</div><div class=message><div class=avatar>S</div><div class=body>"
        f"<span class=name>Sentiment Monitor</span> <span class=app>APP</span> <span class=time>8:02 AM</span>"
        f"{''.join(map(_block, message['blocks']))}</div></div>"
        for title, message in messages.items()
    )


def _block(block: Mapping[str, Any]) -> str:
    if block["type"] == "header":
        return f"<h3>{_plain(block['text']['text'])}</h3>"
    if block["type"] == "section":
        fields = [_mrkdwn(field["text"]) for field in block["fields"]]
        return "<div class=fields>" + "".join(f"<div>{field}</div>" for field in fields) + "</div>"
    if block["type"] == "context":
        return f"<div class=context>{''.join(_plain(one['text']) for one in block['elements'])}</div>"
    return "".join(_rich(part) for part in block["elements"])


def _rich(part: Mapping[str, Any]) -> str:
    tag = "blockquote" if part["type"] == "rich_text_quote" else "div"
    return f"<{tag}>{''.join(_element(element) for element in part['elements'])}</{tag}>"


def _element(element: Mapping[str, Any]) -> str:
    words = _plain(element["text"])
    if element["type"] == "link":
        return f"<a href='{html.escape(element['url'])}'>{words}</a>"
    return f"<b>{words}</b>" if element.get("style", {}).get("bold") else words


def _plain(text: str) -> str:
    """Slack's three entities decoded, then escaped for HTML."""
    return html.escape(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def _mrkdwn(text: str) -> str:
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", re.sub(r"\*([^*]+)\*", r"<b>\1</b>", _plain(text)))
    return marked.replace("\n", "<br>")


def words(messages: Mapping[str, Mapping[str, Any]]) -> str:
    """The messages as a terminal prints them, one below the other."""
    return "\n".join(f"{title}\n{message['text']}\n{as_text(message)}\n" for title, message in messages.items())


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(words(examples()), encoding="utf-8")
    Path(sys.argv[1]).write_text(page(examples()), encoding="utf-8")
