"""A TCP proxy that a test can cut, close and lead elsewhere: the network between client and server."""

import socket
import threading

import support


class Proxy:
    """Forwards what comes to `target`, `HOST:PORT`."""

    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.pairs = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.open = threading.Event()
        self.open.set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            host, port = self.target.rsplit(":", 1)
            try:
                server = socket.create_connection((host, int(port)), timeout=support.TIMEOUT_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self.lock:
                if not self.open.is_set():
                    client.close()
                    server.close()
                    continue
                self.pairs.append((client, server))
            for source, sink in [(client, server), (server, client)]:
                threading.Thread(target=forward, args=(source, sink), daemon=True).start()

    def cut(self):
        """Ends every connection, as a network that breaks; new ones are taken."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                shut(end)

    def close(self):
        """Cuts, and takes no connections until `reopen`."""
        with self.lock:
            self.open.clear()
        self.cut()

    def reopen(self, target=None):
        self.target = target or self.target
        self.open.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.listener.close()


def forward(source, sink):
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    shut(source)
    shut(sink)


def shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
