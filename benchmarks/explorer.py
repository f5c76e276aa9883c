"""How quickly the explorer answers.

Starts it on this machine and prints, measured in one run:

- seconds until a page can be used, in a browser that has just started (goal: 3);
- milliseconds from a click to the figure that it changes, drawn: median and 95 % of the phase diagram's points and of
  the total of the allocation (goal: a median of at most 100);
- errors, and milliseconds that 95 % of requests stay under, while 20 clients ask for a minute (goals: none, 500).

Usage: python benchmarks/explorer.py [--seconds 60] [--clients 20] [--chromium /usr/bin/chromium]
"""

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from playwright.sync_api import Browser, Page, sync_playwright

DRAWN = "drawn => document.querySelector('#view [data-drawn]')?.dataset.drawn === drawn"
WATCH = """
drawn => new Promise(done => {
  const start = performance.now();
  const look = () => document.querySelector('#view [data-drawn]').dataset.drawn === drawn
    ? requestAnimationFrame(() => done(performance.now() - start)) : setTimeout(look, 1);
  CHANGE;
  look();
})
"""


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def line(values: list[float]) -> str:
    return f"median {statistics.median(values):.0f} ms, 95 % under {percentile(values, 0.95):.0f} ms"


def ready(browser: Browser, address: str, view: str, drawn: str) -> tuple[Page, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(f"{address}?view={view}")
    page.wait_for_function(DRAWN, arg=drawn)
    return page, time.perf_counter() - start


def clicks(page: Page, changes: list[tuple[str, str]]) -> list[float]:
    """Milliseconds from each change, made in the page, to the frame in which its figure stands."""
    return [page.evaluate(WATCH.replace("CHANGE", change), drawn) for change, drawn in changes]


def ask(address: str, until: float, spent: list[float], errors: list[str]) -> None:
    chance = random.Random(threading.get_ident())
    while time.perf_counter() < until:
        path = chance.choice(
            (
                f"api/phase/place?kurtosis={chance.uniform(1.5, 40)}&ratio={chance.uniform(0.05, 20)}",
                f"api/allocation?total={chance.uniform(0, 14)}",
                f"api/allocation?n_features=40&total={chance.uniform(0, 40)}",
                "api/phase/map",
            )
        )
        start = time.perf_counter()
        try:
            with urllib.request.urlopen(address + path, timeout=30) as answer:
                answer.read()
        except (urllib.error.URLError, OSError) as error:
            errors.append(str(error))
        spent.append(1000 * (time.perf_counter() - start))
        time.sleep(chance.uniform(0, 0.4))  # a person looks at what came


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    command = [sys.executable, "-m", "polysem", "explore", "--port", "8799"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = re.findall(r"http://\S+", server.stdout.readline())[0]
        while True:
            try:
                urllib.request.urlopen(address).close()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        print(f"load {os.getloadavg()[0]:.1f} before")
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
            page, cold = ready(browser, address, "phase", "2,0.8")
            print(f"page ready, cold            {cold:.2f} s  (goal 3)")
            points = {"A": "2,0.8", "B": "2,1", "C": "3,1", "D": "6,1", "E": "6,0.6", "F": "6,0.3"}
            spent = clicks(
                page, [(f"document.querySelector('button[data-name={n}]').click()", d) for n, d in points.items()] * 5
            )
            print(f"phase diagram, click        {line(spent)}")
            page, _ = ready(browser, address, "allocation", "14,4")
            slide = (
                "const s = document.querySelector('#control-total'); s.value = {0}; s.dispatchEvent(new Event('input'))"
            )
            totals = [round(0.5 * k, 2) for k in (3, 9, 14, 20, 5, 25, 1, 11, 17, 22)]
            spent = clicks(page, [(slide.replace("{0}", str(t)), f"14,{t:g}") for t in totals] * 3)
            print(f"allocation, total           {line(spent)}")
            print("                            (goal: medians of at most 100 ms)")
            browser.close()
        taken: list[float] = []
        errors: list[str] = []
        until = time.perf_counter() + options.seconds
        clients = [threading.Thread(target=ask, args=(address, until, taken, errors)) for _ in range(options.clients)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        asked = f"{options.clients} clients, {options.seconds:.0f} s"
        print(f"{asked:<27} {len(taken)} requests, {len(errors)} errors")
        print(f"of them                     {line(taken)}")
        print("                            (goal: no errors, 95 % under 500 ms)")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
