"""Certificates that nobody else trusts, made by the openssl command."""

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, subject: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """A self-made authority whose one certificate is its own: (certificate, key)."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    ask = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    told = ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"]
    subprocess.run([*ask, *told, "-out", str(made), "-keyout", str(key)], check=True, capture_output=True)
    return made, key
