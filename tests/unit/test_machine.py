from __future__ import annotations

import os

import pytest

from wherry_broker.machine import memory_bytes

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_control_groups_it_is_the_machine_s(tmp_path):
    assert memory_bytes(tmp_path) == MACHINE_BYTES


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("0::/\n", "sys/fs/cgroup/memory.max"),
        ("0::/system.slice/wherry.service\n", "sys/fs/cgroup/system.slice/wherry.service/memory.max"),
        ("0::/system.slice/wherry.service\n", "sys/fs/cgroup/system.slice/memory.max"),
        ("5:memory:/docker/abc\n1:cpu:/\n", "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes"),
        ("5:memory:/docker/abc\n", "sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ],
)
def test_a_control_group_limits_it(tmp_path, group, path):
    write(tmp_path, "proc/self/cgroup", group)
    write(tmp_path, path, "1048576\n")
    assert memory_bytes(tmp_path) == 1_048_576


def test_a_group_without_a_limit_limits_nothing(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/a\n5:memory:/b\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/memory/b/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_bytes(tmp_path) == MACHINE_BYTES
