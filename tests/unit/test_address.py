"""Several addresses in one URL."""

from __future__ import annotations

import pytest

from wherry.address import Address, parse_urls


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("wherry://a", [("a", 7117, "")]),
        ("wherry://a:1,b", [("a", 1, ""), ("b", 7117, "")]),
        ("wherry://u:t%2C@a:1,[::1]:2", [("a", 1, "t,"), ("::1", 2, "t,")]),
    ],
)
def test_a_url_names_one_or_more_brokers(url, addresses):
    assert parse_urls(url) == tuple(Address(*each) for each in addresses)


@pytest.mark.parametrize("url", ["a,b", "http://a,b", "wherry://a,", "wherry://a:x,b", "wherry://u:secret/@a,b"])
def test_another_url_is_refused_and_shows_no_token(url):
    with pytest.raises(ValueError, match=r"a broker's URL") as caught:
        parse_urls(url)
    assert "secret" not in str(caught.value)
