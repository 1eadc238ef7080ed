"""Reads an event stream with Python's own HTTP client; see `support.ClientProgram`."""

import sys
import urllib.request

import sse

url, *patterns = sys.argv[1:]
request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
with urllib.request.urlopen(request, timeout=60) as response:
    for line in sse.lines_of(response):
        print(line, flush=True)
