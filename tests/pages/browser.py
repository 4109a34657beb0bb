"""Chromium as tests drive it, and what can be wrong with an HTML page that is one file."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from components import chromium
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

WIDTHS = (390, 1280)  # a phone and a laptop, in CSS pixels
CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3
DARK = 0.2  # relative luminance of the darkest grey that still counts as light

FLAGS = (
    "--no-sandbox",  # CI is root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# All that a reader could bring to view is there before anything is measured.
_SETTLE = """async () => {
    document.querySelectorAll("details").forEach(part => { part.open = true });
    await document.fonts.ready;
    await Promise.all([...document.images].map(image => {
        image.loading = "eager";
        return image.decode().catch(() => {});
    }));
}"""

_BROKEN_IMAGES = """() => [...document.images].filter(image => !image.naturalWidth)
    .map(image => image.alt || image.src.slice(0, 100) || "an image without a source")"""

_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

# Text against the nearest opaque background behind it; colours are drawn, so any notation of CSS is understood.
_FAINT = """least => {
    const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const drawn = colour => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return pen.getImageData(0, 0, 1, 1).data;
    };
    const probe = document.createElement("div");
    probe.style.backgroundColor = "Canvas";
    document.body.append(probe);
    const paper = drawn(getComputedStyle(probe).backgroundColor);
    probe.remove();
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = drawn(getComputedStyle(at).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return paper;
    };
    const light = colour => {
        const [r, g, b] = [0, 1, 2].map(i => colour[i] / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const faint = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
        if (!text || element.closest("svg") || !element.checkVisibility()) continue;
        const found = contrast(light(drawn(getComputedStyle(element).color)), light(behind(element)));
        if (found < least) faint.push(`${text.slice(0, 40)} (${found.toFixed(1)})`);
    }
    return {faint, page: light(behind(document.body))};
}"""


_READABLE = """() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode())
        if (texts.currentNode.data.trim() && texts.currentNode.parentElement.checkVisibility()) return true;
    return false;
}"""


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Start Debian's Chromium, with a profile of its own that is deleted at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS])
        try:
            yield browser
        finally:
            browser.close()


def faults(browser: Browser, file: Path) -> list[str]:
    """Open an HTML file as its readers do, and say in sentences what is wrong with it.

    It is opened from the disk at each of `WIDTHS`, light and dark, and printed. A page without fault logs no
    error, asks nothing of the network, loads every image and every file, is no wider than the window, can be
    read (text has a contrast of `CONTRAST`), is dark for readers who want it dark, and prints what it shows.

    Returns:
        The faults, each once, in the order in which they were found; `assert faults(browser, page) == []`.
    """
    with _watched(browser) as (page, heard):
        for dark in (False, True):
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme="dark" if dark else "light")
                page.goto(file.resolve().as_uri(), wait_until="load")
                page.evaluate(_SETTLE)
                heard.extend(_shown_faults(page, width, dark))
        heard.extend(_printed_faults(page))
        return list(dict.fromkeys(heard))


def _shown_faults(page: Page, width: int, dark: bool) -> Iterator[str]:
    for image in page.evaluate(_BROKEN_IMAGES):
        yield f"does not show {image}"
    over = page.evaluate(_OVERFLOW)
    if over > 0:
        yield f"is {over} px wider than a window of {width} px"
    seen = page.evaluate(_FAINT, CONTRAST)
    for text in seen["faint"]:
        yield f"is hard to read in {'dark' if dark else 'light'} mode: {text}"
    if dark and seen["page"] > DARK:
        yield "stays light in dark mode"


def _printed_faults(page: Page) -> Iterator[str]:
    if not re.search(rb"/Type\s*/Page\b", page.pdf(format="A4")):
        yield "prints no page"
    page.emulate_media(media="print")
    if not page.evaluate(_READABLE):
        yield "prints blank"


@contextlib.contextmanager
def _watched(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """Make an empty page; the list grows by what it logs, or asks for in vain or of the network."""
    context = browser.new_context()
    heard: list[str] = []

    def logged(message: ConsoleMessage) -> None:
        if message.type == "error" and not _outside(message.location.get("url", "")):
            heard.append(f"logs an error: {message.text}")

    def refused(route: Route) -> None:
        heard.append(f"asks the network for {route.request.url}")
        route.abort()

    def failed(request: Request) -> None:
        if not _outside(request.url):
            heard.append(f"cannot load {request.url}")

    try:
        context.route(_outside, refused)
        page = context.new_page()
        page.on("console", logged)
        page.on("pageerror", lambda error: heard.append(f"raises an error: {error.message}"))
        page.on("requestfailed", failed)
        page.on("websocket", lambda socket: heard.append(f"asks the network for {socket.url}"))
        yield page, heard
    finally:
        context.close()


def _outside(address: str) -> bool:
    return urlsplit(address).scheme in {"http", "https", "ws", "wss"}
