"""Logs of every version of the format that was ever released are read, and hold what they held then."""

from __future__ import annotations

import json

import pytest

import golden_logs
from wherry_broker.log import codec

FOLDERS = sorted(path.name for path in golden_logs.FOLDER.iterdir())
LOGS = [(path.stem, folder) for folder in FOLDERS for path in sorted((golden_logs.FOLDER / folder).glob("*.json"))]
CURRENT = f"v{codec.VERSION}"


def test_there_is_a_folder_for_every_version():
    assert sorted(f"v{version}" for version in range(1, codec.VERSION + 1)) == FOLDERS


def test_every_kind_of_record_is_in_a_golden_log():
    documents = [json.loads(golden_logs.document(name, CURRENT).read_text("utf-8")) for name in golden_logs.WRITERS]
    kinds = {record["kind"] for each in documents for entry in each["entries"] for record in entry["records"]}
    assert kinds == {cls.__name__.lower() for cls in codec.KINDS.values()}


@pytest.mark.parametrize(("name", "version"), LOGS)
def test_a_golden_log_holds_what_it_held(name, version):
    store = golden_logs.load(name, version)
    before = store.contents()
    expected = json.loads(golden_logs.document(name, version).read_text("utf-8"))
    assert json.loads(json.dumps(golden_logs.contents(store))) == expected
    assert store.contents() == before


@pytest.mark.parametrize("name", golden_logs.WRITERS)
def test_the_code_writes_the_golden_logs_of_its_version_byte_by_byte(name):
    assert golden_logs.WRITERS[name]().contents() == golden_logs.load(name, CURRENT).contents()
