# SPDX-License-Identifier: ISC
"""From the figures to what people look at: a table, ratios to the best other relay, Markdown for the README, plots."""

import os
import shutil
import statistics
import subprocess

PEERS = ("haproxy", "nginx", "socket-proxyd")      # what a ratio is taken to; socat and the kernel are shown only
MARKDOWN = (        # heading, case, key, form
    ("bulk up, 8 flows: GiB/s", "up8", "rate", "{:.1f}"),
    ("CPU s/GiB", "up8", "cost", "{:.3f}"),
    ("bulk down, 8 flows: GiB/s", "down8", "rate", "{:.1f}"),
    ("CPU s/GiB", "down8", "cost", "{:.3f}"),
    ("1 ping-pong: p50 µs", "rr1", "p50", "{:.0f}"),
    ("64 ping-pongs: thousand/s", "rr64", "rate", "{:.0f}"),
    ("CPU µs each", "rr64", "cost", "{:.2f}"),
    ("new connections, 64 at a time: thousand/s", "crr64", "rate", "{:.1f}"),
    ("CPU µs each", "crr64", "cost", "{:.0f}"),
    ("4000 idle: KiB each", "idle4k", "memory", "{:.1f}"),
)
WORKERS_PLOT = ("-adaptive", "-io_uring")       # of all engines nobody could tell the lines apart
PLOT_HEAD = 'set terminal svg size {} background "white" font "sans,13" noenhanced\nset output "{}"\nset border 3\n' \
            'set grid ytics lt 1 lc rgb "#dddddd"\nset tics nomirror\n'


def medians(results):
    """{case: {relay: {key: median over the rounds}}}; errors are added up."""
    found = {}
    for case, relays in results.items():
        for relay, rows in relays.items():
            figures = found.setdefault(case, {}).setdefault(relay, {})
            for key in sorted({key for row in rows for key in row}):
                values = [row[key] for row in rows if row.get(key) is not None]
                if values:
                    figures[key] = sum(values) if key == "errors" else statistics.median(values)
    return found


def heading(data):
    machine = data["machine"]
    return (f"{machine['processors']} processors ({machine['model']}), Linux {machine['kernel']}, {machine['congestion_control']}, "
            f"medians of {data['rounds']} round{'s' * (data['rounds'] > 1)} of {data['seconds']:g} s")


def versions(data):
    """Each program once, with its version."""
    seen = {}
    for name, version in data["versions"].items():
        program = next((p for p in ("nsproxy", "haproxy", "nginx", "systemd", "socat") if name.startswith(p)), None)
        if name == "socket-proxyd":
            seen["systemd"] = version.removeprefix("systemd ")
        elif program:
            seen[program] = version
    return ", ".join(f"{program} {version}" for program, version in seen.items())


def cell(figures, key, form="{:.3f}"):
    return form.format(figures[key]) if figures.get(key) is not None else "-"


def row_text(name, figures, unit):
    text = f"  {name:26s}"
    for key, form, label in (("rate", "{:>10.2f}", "rate"), ("cost", "{:>8.3f}", "cost"), ("whole", "{:>8.3f}", "whole"), ("p50", "{:>7.1f}", "p50"),
                             ("p99", "{:>7.1f}", "p99"), ("memory", "{:>6.2f}", "KiB"), ("idle_cpu", "{:>6.2f}", "idle CPU %")):
        if figures.get(key) is not None and not (unit == "GiB" and key in ("p50", "p99")):
            text += f"  {label} {form.format(figures[key])}"
    return text + (f"  ERRORS {figures['errors']:.0f}" if figures.get("errors") else "")


def print_table(data, cases):
    print(heading(data) + "\n" + versions(data))
    for case, relays in medians(data["results"]).items():
        unit = cases[case].unit
        what = {"GiB": "GiB/s, CPU s/GiB", "idle": "connections opened/s"}.get(unit, "thousand/s, CPU us each, latency us")
        print(f"\n{case}: {cases[case].text} ({what})")
        for name, figures in relays.items():
            print(row_text(name, figures, unit))


def is_peer(name):
    return name.startswith(PEERS)


def variant(name):
    """A way to run nsproxy that has a place of its own in the report."""
    return name.endswith(("-log", "-w1", "-w2", "-w4"))


def print_ratios(data):
    """Of nsproxy's engines to the best other relay in the same case: below 1 is less, above 1 is more."""
    lines = []
    for case, relays in medians(data["results"]).items():
        for key, best_of in (("cost", min), ("rate", max), ("p50", min), ("memory", min)):
            peers = [(figures[key], name) for name, figures in relays.items() if is_peer(name) and figures.get(key)]
            if not peers or (key == "rate" and case.startswith("idle")):
                continue
            best, whose = best_of(peers)
            ours = "  ".join(f"{name.removeprefix('nsproxy-')} {figures[key] / best:.2f}" for name, figures in relays.items()
                             if name.startswith("nsproxy-") and not variant(name) and figures.get(key) is not None)
            if ours and not (key == "p50" and case.startswith(("up", "down", "idle"))):
                lines.append(f"  {case:10s} {key:7s} {ours}   ({whose} {best:.3f})")
        for name, figures in relays.items():
            plain = relays.get(name.removesuffix("-log"), {})
            if name.endswith("-log") and figures.get("cost") and plain.get("cost"):
                lines.append(f"  {case:10s} log     {name.removeprefix('nsproxy-')} costs {(figures['cost'] / plain['cost'] - 1) * 100:+.1f} % CPU")
    if lines:
        print("\nratios to the best of " + ", ".join(PEERS) + "\n" + "\n".join(lines))


def print_markdown(data):
    """The table for the README: a row for each relay, of the figures that matter to most."""
    found = medians(data["results"])
    columns = [column for column in MARKDOWN if column[1] in found]
    names = [name for name in data["versions"] if not variant(name) and any(name in found[column[1]] for column in columns)]
    print("| relay | " + " | ".join(column[0] for column in columns) + " |")
    print("|---" + "|---:" * len(columns) + "|")
    for name in names:
        cells = [cell(found[case].get(name, {}), key, form) for _, case, key, form in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\n{heading(data)[:1].upper() + heading(data)[1:]}; {versions(data)}. CPU is that of the relay's own processes. By `make bench`.")


def gnuplot(directory, name, script):
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
    if done.returncode:
        print(f"gnuplot, {name}: {done.stderr.strip()}")
    else:
        print(f"wrote {os.path.join(directory, name)}")


def colour(name):
    return "#1b6ca8" if name.startswith("nsproxy") else "#9a9a9a" if not name.startswith(("kernel", "direct")) else "#d0d0d0"


def bar(name, figures):
    """socat needs so much more than all others that nothing else could be told apart."""
    return bool(figures.get("cost")) and not variant(name) and name != "socat-pair"


def plot_costs(directory, found):
    """Bars: the relay's own CPU in three cases."""
    panels = [(case, title) for case, title in (("up8", "bulk, 8 flows: CPU s/GiB"), ("rr64", "64 ping-pongs: CPU µs each"),
                                                ("crr64", "connections: CPU µs each")) if any(bar(name, f) for name, f in found.get(case, {}).items())]
    if not panels:
        return
    script = PLOT_HEAD.format(f"{380 * len(panels)},420", os.path.join(directory, "cost.svg"))
    script += f'set multiplot layout 1,{len(panels)}\nset style fill solid\nset boxwidth 0.7\nset xtics rotate by 55 right\nunset key\nset yrange [0:*]\n'
    for case, title in panels:
        rows = [(name, f["cost"]) for name, f in found[case].items() if bar(name, f)]
        bars = "\n".join(f'{i} {cost} {int(colour(name)[1:], 16)} "{name}"' for i, (name, cost) in enumerate(rows))
        script += f'set title "{title}"\n$d << END\n{bars}\nEND\nplot $d using 1:2:3:xtic(4) with boxes lc rgb variable\n'
    gnuplot(directory, "cost.svg", script + "unset multiplot\n")


def plot_lines(directory, name, lines, labels):
    """lines: {title: [(x, y)]}; labels: title, x, y, further settings."""
    if not any(lines.values()):
        return
    title, x_label, y_label, settings = labels
    script = PLOT_HEAD.format("760,460", os.path.join(directory, name))
    script += f'set title "{title}"\nset xlabel "{x_label}"\nset ylabel "{y_label}"\nset key outside right\nset yrange [0:*]\n{settings}\n'
    for number, points in enumerate(lines.values()):
        script += f"$d{number} << END\n" + "\n".join(f"{x} {y}" for x, y in points) + "\nEND\n"
    parts = [f'$d{number} using 1:2 with linespoints lw {3 if line.startswith("nsproxy") else 2} pt 7 ps 0.6 title "{line}"'
             for number, line in enumerate(lines)]
    gnuplot(directory, name, script + "plot " + ", ".join(parts) + "\n")


def plot(data, directory):
    if not shutil.which("gnuplot"):
        print("no plots: gnuplot is not installed (apt-get install gnuplot-nox)")
        return
    os.makedirs(directory, exist_ok=True)
    found = medians(data["results"])
    plot_costs(directory, found)
    scaling, workers = {}, {}
    for case, relays in found.items():
        for name, figures in relays.items():
            if case.startswith("conns") and figures.get("cost"):
                scaling.setdefault(name, []).append((int(case.removeprefix("conns")), figures["cost"]))
            engine, _, count = name.rpartition("-w")
            if count.isdigit() and figures.get("rate") and engine.endswith(WORKERS_PLOT):
                workers.setdefault(f"{engine.removeprefix('nsproxy-')} {case}", []).append((int(count), figures["rate"]))
    relative = {line: [(x, y / points[0][1]) for x, y in points] for line, points in workers.items()}
    plot_lines(directory, "scaling.svg", scaling, ("Cost of an exchange of 64 bytes", "connections, all of them busy", "CPU µs", "set logscale x"))
    plot_lines(directory, "workers.svg", relative, ("Rate with more workers", "workers", "rate, one worker is 1", "set xtics (1, 2, 4)"))
