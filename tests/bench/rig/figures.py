"""From raw figures to the table: medians over rounds, ratios to each other peer, and how far the rounds lie apart."""
import statistics

# figure: (title, digits)
FIGURES = {
    "start_ms": ("start until the first 200, ms", 0), "fresh_mib": ("resident fresh, both, MiB", 1),
    "fresh_anonymous_mib": ("of it anonymous, MiB", 1), "rps": ("requests/s", 0), "mb_s": ("MB/s", 0), "gbit_s": ("Gbit/s", 2),
    "cpu_us": ("CPU µs/request, both", 1), "cpu_s_gb": ("CPU s/GB, both", 2), "p50_ms": ("p50 ms", 2), "p99_ms": ("p99 ms", 2),
    "p999_ms": ("p99.9 ms", 2), "rss_mib": ("resident under load, both, MiB", 1), "idle_kib": ("KiB per connection, both", 1),
}


def rows(entries):
    """[(scenario, figure title, {peer: median}, {peer: [ratios of the rounds, first peer to this one]})], digits last."""
    peers, scenarios, seen = [], [], {}
    for entry in entries:
        peers += [entry["peer"]] * (entry["peer"] not in peers)
        scenarios += [entry["scenario"]] * (entry["scenario"] not in scenarios)
        for figure in FIGURES:
            if entry.get(figure) is not None:
                seen.setdefault((entry["scenario"], figure), {}).setdefault(entry["peer"], {})[entry["round"]] = entry[figure]
    found = []
    for scenario in scenarios:
        for figure, (title, digits) in FIGURES.items():
            values = seen.get((scenario, figure), {})
            if peers[0] not in values:
                continue
            medians = {peer: statistics.median(by_round.values()) for peer, by_round in values.items()}
            ratios = {peer: [values[peers[0]][r] / v for r, v in by_round.items() if v and r in values[peers[0]]]
                      for peer, by_round in values.items() if peer != peers[0]}
            found.append((scenario, title, medians, ratios, digits))
    return peers, found


def spread(ratios):
    """The median ratio and the smallest and largest of the rounds."""
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({min(ratios):.2f}-{max(ratios):.2f})"


def table(entries, markdown=False):
    """The lines of the table; the first peer is the one that the ratios are of."""
    peers, found = rows(entries)
    lines = [["load", "figure", *peers, *[f"{peers[0]} / {peer}" for peer in peers[1:]]]]
    for scenario, title, medians, ratios, digits in found:
        cells = [f"{medians[p]:,.{digits}f}" if p in medians else "-" for p in peers]
        lines.append([scenario, title, *cells, *[spread(ratios[p]) if ratios.get(p) else "-" for p in peers[1:]]])
    if markdown:
        head = f"| {' | '.join(lines[0])} |\n|---|---|{'--:|' * (len(lines[0]) - 2)}"
        return "\n".join([head] + [f"| {' | '.join(line)} |" for line in lines[1:]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
                     for line in lines)
