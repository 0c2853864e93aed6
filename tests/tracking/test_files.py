"""A text file is whole or not there."""

import pytest

from extrapo.tracking.files import replace


def test_a_failed_write_leaves_the_good_file(tmp_path):
    path = replace(tmp_path / "new" / "file.txt", "good")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "half \ud800")
    assert path.read_text() == "good"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
