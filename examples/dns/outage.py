"""Two name servers and a client that asks every 10 ms, while one dies and is cut off: measured, and drawn as an SVG.

    python outage.py picture.svg

Needs root, or `unshare --user --map-root-user --net --mount`: the hosts are network namespaces, on a switch.
"""

import itertools
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from dnslib import DNSRecord

from pycarp.lab.namespaces import Lab

VIP = "10.13.37.53"
EVERY = 0.01
LAST = 9.5
COLOURS = {"192.0.2.1": "#2a78b5", "192.0.2.2": "#3a9a4b", None: "#c8322f"}
HERE = Path(__file__).parent


def start(lab, name, answer, advskew, passfile):
    """A name server on a host of the lab; www.example. says which host it is."""
    words = [VIP, f"www.example.={answer}", "--advskew", str(advskew), "--passfile", str(passfile)]
    return lab[name].popen([sys.executable, str(HERE / "nameserver.py"), *words], stdout=-3)


def ask_all(client, begun, found):
    """Ask every 10 ms; `found` gets when it asked, and the answer, None where none comes in time for the next."""
    question = DNSRecord.question("www.example.")
    for number in range(int(LAST / EVERY)):
        time.sleep(max(0, begun + number * EVERY - time.monotonic()))
        question.header.id = number
        asked, answer = time.monotonic() - begun, None
        try:
            client.send(question.pack())
            while time.monotonic() < begun + (number + 1) * EVERY:
                client.settimeout(max(0.001, begun + (number + 1) * EVERY - time.monotonic()))
                reply = DNSRecord.parse(client.recv(512))
                if reply.header.id == number:
                    answer = str(reply.rr[0].rdata)
                    break
        except OSError:
            pass  # nobody is there, or nobody answers
        found.append((asked, answer))


def measure(passfile):
    """Run it all. Returns what was done when, and what was found."""
    done, found = [], []
    with Lab(("ns1", "ns2", "client")) as lab:
        first = start(lab, "ns1", "192.0.2.1", 0, passfile)
        start(lab, "ns2", "192.0.2.2", 100, passfile)
        with lab["client"].enter():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((VIP, 53))
        wait_for_an_answer(client)
        begun = time.monotonic()
        asking = threading.Thread(target=ask_all, args=(client, begun, found))
        asking.start()
        for at, what in (1, "ns1 is killed"), (2, "ns1 starts again"), (5, "ns1 is cut off"):
            time.sleep(max(0, begun + at - time.monotonic()))
            done.append((time.monotonic() - begun, what))
            if what == "ns1 is killed":
                first.kill()
                first.wait()
            elif what == "ns1 starts again":
                start(lab, "ns1", "192.0.2.1", 0, passfile)
            else:
                lab.unplug("ns1")
        asking.join()
        client.close()
    return done, found


def wait_for_an_answer(client):
    client.settimeout(0.1)
    for _ in range(200):
        try:
            client.send(DNSRecord.question("www.example.").pack())
            if client.recv(512):
                return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("no name server answers")


def longest_without(found, since, until):
    """Seconds from the last answer before the longest gap to the first one after it."""
    answered = [at for at, answer in found if answer is not None and since - 1 < at < until]
    return max(after - before for before, after in itertools.pairwise(answered))


def picture(done, found):
    """Blue: ns1 answered, green: ns2; red: nobody did."""
    width, scale = 1000, 1000 / LAST
    marks = []
    for answer, row in itertools.groupby(found, key=lambda one: one[1]):
        times = [at for at, _ in row]
        place = f'x="{times[0] * scale:.1f}" y="{60 if answer else 40}"'
        size = f'width="{(times[-1] - times[0] + EVERY) * scale:.1f}" height="{30 if answer else 70}"'
        marks.append(f'<rect {place} {size} fill="{COLOURS.get(answer, "#888")}"/>')
    texts = [
        f'<path d="M{at * scale:.1f} 25V120" stroke="#333"/><text x="{at * scale + 4:.1f}" y="35">{what}</text>'
        for at, what in done
    ]
    axis = [f'<text x="{second * scale:.1f}" y="140">{second} s</text>' for second in range(int(LAST) + 1)]
    legend = '<text x="0" y="15">www.example. asked every 10 ms: blue: ns1 answers, green: ns2, red: nobody</text>'
    style = 'font-family="sans-serif" font-size="13" style="background: #fff"'
    size = f'width="{width}" height="150" viewBox="0 0 {width} 150"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', legend, *marks, *texts, *axis, "</svg>\n"]
    )


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".pass") as secret:
        secret.write("motdepassehalakon\n")
        secret.flush()
        done, found = measure(Path(secret.name))
    ends = [at for at, _ in done[1:]] + [LAST]
    for (at, what), end in zip(done, ends, strict=True):
        print(f"{what}: {1000 * longest_without(found, at, end):.0f} ms without an answer")
    Path(sys.argv[1]).write_text(picture(done, found))


if __name__ == "__main__":
    main()
