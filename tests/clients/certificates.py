"""Certificates for tests, made by `openssl`: an authority, and what it signs."""

import base64
import hashlib
import subprocess
import tempfile
from pathlib import Path

import support


class Authority:
    """A certificate authority in a folder of its own, gone with the process."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.certificate = self.path("authority.pem")
        self.key = self.path("authority.key")
        openssl(
            *["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"],
            *["-keyout", self.key, "-out", self.certificate, "-days", "2", "-subj", "/CN=tests"],
        )

    def path(self, name):
        return str(Path(self.folder.name) / name)

    def sign(self, name, *dns_names):
        """A certificate for DNS names and the loopback address; the paths of chain and key."""
        chain, key, request = self.path(f"{name}.pem"), self.path(f"{name}.key"), self.path("request")
        names = [f"DNS:{dns_name}" for dns_name in dns_names] + ["IP:127.0.0.1"]
        extensions = self.path("extensions")
        Path(extensions).write_text(f"subjectAltName={','.join(names)}\n")
        openssl(
            *["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"],
            *["-keyout", key, "-out", request, "-subj", f"/CN={name}"],
        )
        openssl(
            *["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key],
            *["-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", chain],
        )
        return chain, key

    def trusted(self):
        """What makes Python, Node and curl trust it, as an environment."""
        return {
            "SSL_CERT_FILE": self.certificate,
            "NODE_EXTRA_CA_CERTS": self.certificate,
            "CURL_CA_BUNDLE": self.certificate,
        }


def openssl(*arguments):
    command = [support.tool("openssl"), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=support.TIMEOUT_S)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def public_key_hash(chain):
    """The hash by which Chromium is told to accept a certificate."""
    public_key = openssl("x509", "-in", chain, "-pubkey", "-noout").decode()
    body = "".join(line for line in public_key.splitlines() if not line.startswith("-----"))
    return base64.b64encode(hashlib.sha256(base64.b64decode(body)).digest()).decode()
