"""The README's code is that of the examples, which are run; its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
README = (HERE / "README.md").read_text()


def test_each_block_is_part_of_an_example() -> None:
    examples = [path.read_text() for path in sorted(HERE.glob("examples/*.py"))]
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert any(block in example for example in examples), block


def test_each_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", README):
        assert (HERE / target).exists(), target
