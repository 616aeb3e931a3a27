"""Certificates for servers on this machine; each vouches for itself, and it and its key are one file."""

from __future__ import annotations

import pathlib
import subprocess


def made(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Make one for a name as a certificate has it: ``DNS:hooks.example`` or ``IP:127.0.0.1``."""
    file, key = folder / "both.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=test", "-addext", f"subjectAltName={name}", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file
