"""``python -m dev.alerts``: writes the alert rules as a plain file, for a Prometheus without the operator and promtool.

The PrometheusRule is what people change; a test holds the plain file to it.
"""

from __future__ import annotations

import pathlib
import sys

import yaml

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "k8s" / "components" / "metrics"
PLAIN = FOLDER / "plain" / "alerts.yaml"
HEAD = "# Written by `python -m dev.alerts` from ../alerts.yaml, which has the reasons.\n"


def main() -> int:
    """Write the file."""
    PLAIN.write_text(plain())
    print(PLAIN)
    return 0


def plain() -> str:
    """Return the rules as Prometheus reads them."""
    rule = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    return HEAD + str(yaml.safe_dump(rule["spec"], sort_keys=False, width=1000))


if __name__ == "__main__":
    sys.exit(main())
