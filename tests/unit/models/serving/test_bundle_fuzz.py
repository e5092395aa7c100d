"""Whatever is done to a bundle's files, loading either refuses with a BundleError or was not fooled."""

import json
import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.serving.bundle import BundleError, load_bundle

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
QUIET = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def refused(folder):
    try:
        load_bundle(folder).close()
    except BundleError:
        return True
    return False


@QUIET
@given(data=st.data())
def test_flipped_cut_or_grown_files(folder, tmp_path, data):
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    file = copy / data.draw(st.sampled_from(sorted(file.name for file in folder.iterdir())))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if how == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del content[place:]
    else:
        content[place:place] = b"\x00"
    file.write_bytes(content)
    # White space and the like may change in JSON without changing what it says.
    harmless = file.name == "manifest.json" and _same(content, (folder / file.name).read_bytes())
    assert refused(copy) or harmless


@QUIET
@given(data=st.data())
def test_any_field_of_the_manifest_replaced_by_anything(folder, data):
    file = folder / "manifest.json"
    original = file.read_bytes()
    text = json.loads(original)
    field = data.draw(st.sampled_from(sorted(text)))
    value = data.draw(ANYTHING)
    file.write_bytes(json.dumps(text | {field: value}).encode())
    try:
        assert refused(folder) or value == text[field]
    finally:
        file.write_bytes(original)


def _same(one, other):
    try:
        return json.loads(bytes(one)) == json.loads(other)
    except ValueError:
        return False
