"""What a change has to say of the version that it changes."""

import pytest

from daemon.api.etags import check_match, etag
from daemon.scheduling.errors import PreconditionFailed, PreconditionRequired


@pytest.mark.parametrize("if_match", ['"3"', "*", '"1", "3"', '"1","3" '])
def test_a_change_that_names_the_newest_version_passes(if_match):
    check_match(if_match, 3, what="schedule s")


@pytest.mark.parametrize("if_match", ['"2"', "3", 'W/"3"', "", '"33"', "'3'"])
def test_a_change_that_names_another_version_or_none_at_all_is_refused(if_match):
    with pytest.raises(PreconditionFailed, match='the newest is "3"'):
        check_match(if_match, 3, what="schedule s")


def test_a_change_without_a_version_passes_only_where_none_is_asked_for():
    check_match(None, 3, what="schedule s", required=False)
    with pytest.raises(PreconditionRequired, match="schedule s is changed only with the header If-Match"):
        check_match(None, 3, what="schedule s")


def test_every_version_has_an_etag_of_its_own():
    assert etag(3) == '"3"'
    assert len({etag(version) for version in range(100)}) == 100
