"""The web page in a real browser: what it shows, what a click does, and who may ask."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from bus_servers import running
from daemon_parts import COMMAND, Daemon, picks_of, replaying, write_archive
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from streamer.association.message import Arrival, Event
from streamer.bus.connect import open_client
from streamer.bus.redis_url import parse_redis_url
from streamer.picks import Pick
from streamer.timebase import NS_PER_S, iso

# Headless, as root, and without a question to anybody: updates, safe browsing, probes.
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--window-size=1400,950"
)
WAIT_S = 30


@dataclass(frozen=True)
class Scene:
    """A daemon on live data of four stations, the page, a located event, and the folder."""

    page: str
    redis_url: str
    event: Event
    folder: Path


@contextmanager
def web_page(redis_url: str) -> Iterator[str]:
    """The command as a process; gives its address."""
    process = subprocess.Popen(
        [*COMMAND, "web", "--redis", redis_url, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(WAIT_S) == 0
        process.stdout.close()


def event_of(picks: list[Pick]) -> Event:
    """An event as an association worker would make of the picks."""
    origin_ns = min(pick.t_ns for pick in picks) - NS_PER_S // 2
    arrivals = tuple(
        Arrival(
            pick_id=p.id, net=p.net, sta=p.sta, phase=p.phase, time=iso(p.t_ns),
            residual_s=0.02, distance_km=1.0 + n, azimuth_deg=90.0, weight=1.0, prob=p.prob,
        )
        for n, p in enumerate(picks)
    )  # fmt: skip
    return Event(
        id="ms1", version=1, status="final", profile="best", time=iso(origin_ns), t_ns=origin_ns,
        lat=48.02, lon=11.64, depth_km=4.2, time_error_s=0.1, lat_error_km=0.4, lon_error_km=0.5,
        depth_error_km=0.9, major_error_km=0.6, minor_error_km=0.3, major_azimuth_deg=10.0,
        gap_deg=200.0, nearest_km=1.0, rms_s=0.05, n_p=3, n_s=2, n_both=2, arrivals=arrivals,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, redis_server_binary: str) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("web")
    archive = write_archive(folder / "archive", {})
    url = f"unix://{folder / 'r.sock'}"
    with (
        running(redis_server_binary, folder),
        replaying(archive, "--speed", "4", "--shift-to-now") as server,
        Daemon(
            folder, "--server", server, "--stations", "*", "--redis", url,
            "--state-dir", folder / "state", MSNET_STREAM_METRICS__LISTEN="127.0.0.1:0",
            MSNET_STREAM_WAVEFORMS__BUFFER_S="600",
        ) as daemon,
        web_page(url) as page,
    ):  # fmt: skip
        daemon.wait_for(lambda: len([p for p in picks_of(url) if p.phase == "P"]) >= 3)
        event = event_of(picks_of(url)[:5])
        with open_client(parse_redis_url(url, environ={})) as client:
            client.xadd("msnet:events", event.to_fields())
            station = {"time_ns": 0, "lat": 48.01, "lon": 11.65, "data_latency_s": 1.0}
            client.hset("msnet:stations", "XX.MAP..HH", json.dumps(station))
            daemon.wait_for(lambda: client.hlen("msnet:stations") == 5)
        yield Scene(page, url, event, folder)


@pytest.fixture(scope="module")
def browser(lacking: Callable[[str], NoReturn], scene: Scene) -> Iterator[Chrome]:
    """Chromium with the page open and its first picks in the list."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        lacking("chromium and chromedriver are not on PATH (apt-get install chromium-driver)")
    options = Options()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS.split():
        options.add_argument(flag)
    chrome = Chrome(options=options, service=Service(driver))
    try:
        chrome.get(scene.page)
        until(chrome, "return document.querySelectorAll('#stations tbody tr').length >= 5")
        yield chrome
    finally:
        chrome.quit()


def until(browser: Chrome, script: str) -> Any:
    """Wait until the script gives something true."""
    return WebDriverWait(browser, WAIT_S).until(lambda chrome: chrome.execute_script(script))


def click_row(browser: Chrome, tab: str, cell: str) -> None:
    """In one step: rows are made anew as the numbers change."""
    browser.find_element(By.CSS_SELECTOR, f'nav button[data-tab="{tab}"]').click()
    script = (
        "const row = [...document.querySelectorAll(arguments[0])]"
        ".find((r) => r.textContent.includes(arguments[1])); row?.click(); return !!row"
    )
    assert browser.execute_script(script, f"#{tab} tbody tr", cell)


def painted(browser: Chrome, selector: str) -> int:
    """How many pixels of a canvas are not clear."""
    script = (
        "const c = document.querySelector(arguments[0]);"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n"
    )
    return int(browser.execute_script(script, selector))


def test_stations_picks_and_events_are_listed(browser: Chrome, scene: Scene) -> None:
    text = until(browser, "return document.getElementById('summary').textContent")
    assert "of 5 stations" in text
    assert "1 events" in text
    picks = until(browser, "return document.querySelectorAll('#picks tbody tr').length")
    assert picks >= 3
    row = browser.execute_script("return document.querySelector('#events tbody tr').textContent")
    assert "4.2 ± 0.9 km" in row
    assert until(browser, "return document.getElementById('connection').textContent") == "live"


def test_a_click_on_a_station_shows_its_waveforms_and_probabilities(
    browser: Chrome, scene: Scene
) -> None:
    for name in ("BW.UH3..SH", "XX.MAP..HH"):  # of the second there are no waveforms
        click_row(browser, "stations", name)
        until(browser, f"return document.querySelector('[data-strip=\"{name}\"] canvas') !== null")
    strip, empty = (f'[data-strip="{name}"] canvas' for name in ("BW.UH3..SH", "XX.MAP..HH"))
    deadline_s = time.monotonic() + WAIT_S
    while painted(browser, strip) < painted(browser, empty) + 3_000:
        assert time.monotonic() < deadline_s, (painted(browser, strip), painted(browser, empty))
        time.sleep(0.2)
    picture = scene.folder / "page.png"
    browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 50_000
    click_row(browser, "stations", "BW.UH3..SH")
    until(browser, f"return document.querySelector('{strip}') === null")


def test_a_click_on_an_event_shows_its_record_section(browser: Chrome, scene: Scene) -> None:
    click_row(browser, "events", "final")
    until(browser, "return document.querySelector('dialog').open")
    title = browser.execute_script("return document.querySelector('dialog h2').textContent")
    assert "48.020°N 11.640°E" in title
    deadline_s = time.monotonic() + WAIT_S
    while painted(browser, "dialog canvas") < 5_000:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    browser.find_element(By.CSS_SELECTOR, "dialog button").click()


def test_new_messages_appear_by_themselves(browser: Chrome, scene: Scene) -> None:
    later = replace(scene.event, version=2, status="amended")
    with open_client(parse_redis_url(scene.redis_url, environ={})) as client:
        client.xadd("msnet:events", later.to_fields())
    until(browser, "return document.querySelector('#events tbody').textContent.includes('amended')")


def test_the_page_is_whole_without_any_other_host(browser: Chrome, scene: Scene) -> None:
    """No error in the console: nothing was missing, nothing refused by the content policy."""
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    names = browser.execute_script("return performance.getEntries().map((e) => e.name)")
    assert all(name.startswith(scene.page) for name in names if name.startswith("http"))


def status_of(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as ok:
            return int(ok.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def test_nobody_reads_along_under_another_name_and_nonsense_is_refused(scene: Scene) -> None:
    """A site whose name was pointed at this address gets nothing (DNS rebinding)."""
    assert status_of(f"{scene.page}api/snapshot") == 200
    assert status_of(f"{scene.page}api/snapshot", Host="evil.example") == 400
    assert status_of(f"{scene.page}static/../serve.py") == 404
    assert status_of(f"{scene.page}api/waveforms?instrument=x&start_ns=1&stop_ns=2") == 400
    day = "instrument=BW.UH1..SH&start_ns=0&stop_ns=86400000000000"
    assert status_of(f"{scene.page}api/waveforms?{day}") == 400
