"""What the demo prints and the README shows, to be pasted, works as it stands there."""

import json
import os
import sys
import unittest
from pathlib import Path

import support


README = support.HERE.parents[1] / "README.md"
README_URL = "ws://127.0.0.1:9001/v1"


class Pasted(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = cls.enterClassContext(
            support.Program("demo", "--plain", "--admin", "none", "--listen", "127.0.0.1:0", "--speed", "20")
        )
        cls.text = "\n".join(cls.demo.greeting)

    def test_the_python_command_of_the_demo_prints_quotes(self):
        command = self.cut("python3 - <<'END'\n", "\nEND\n")
        for update in self.updates(command):
            self.assertTrue(update["channel"].startswith("quote."), update)

    def test_the_node_command_of_the_demo_prints_all_channels(self):
        channels = {update["channel"] for update in self.updates(self.cut("node -e '", "'\n"))}
        self.assertGreater(len(channels), 1)

    def test_the_command_of_this_program_prints_trades(self):
        self.prints_channels(self.cut(f"{support.PROGRAM} subscribe ", "\n").rstrip())

    def test_the_python_of_the_readme_prints_events(self):
        self.prints_channels(f"python3 - <<'END'\n{self.block('python')}\nEND\n")

    def test_the_javascript_of_the_readme_prints_events(self):
        self.prints_channels(f"node - <<'END'\n{self.block('js')}\nEND\n")

    def updates(self, command):
        """20 live events that the command prints, behind a snapshot, each with what is promised."""
        with self.shell(command) as client:
            while json.loads(client.next()).get("type") != "snapshot_end":
                pass
            updates = []
            while len(updates) < 20:
                message = json.loads(client.next())
                if message.get("type") == "update":
                    updates.append(message)
        seqs = [update["seq"] for update in updates]
        self.assertEqual(seqs, sorted(set(seqs)))
        return updates

    def prints_channels(self, command):
        with self.shell(command) as client:
            lines = [client.next() for _ in range(60)]
        self.assertTrue(any("trade." in line for line in lines), lines)

    def cut(self, start, end):
        """The first command of the demo's text from `start` to `end`, both included."""
        _, found, rest = self.text.partition(start)
        self.assertTrue(found, f"no {start!r} in {self.text}")
        return start + rest.split(end)[0] + end

    def block(self, language):
        """The README's first block in the language, sent to the demo that runs here."""
        _, found, rest = README.read_text().partition(f"\n```{language}\n")
        self.assertTrue(found, f"{README} has a block in {language}")
        block = rest.split("\n```\n")[0]
        self.assertIn(README_URL, block)
        return block.replace(README_URL, self.demo.url)

    def shell(self, command):
        """The command in a shell where python3 is the one that has `websockets`."""
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "NODE_OPTIONS": " ".join(support.node_options()),
        }
        return support.ClientProgram(["bash", "-c", command], environment)
