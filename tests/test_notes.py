"""Lines are kept in order, and each is logged once."""

import logging

from vsr.notes import Notes


def test_each_line_is_logged_once(caplog):
    notes = Notes(["known before"], logger=logging.getLogger("vsr.somewhere"))
    for line in ("known before", "100 % new", "newer", "100 % new"):
        notes.warn(line)
    assert notes == ["known before", "100 % new", "newer"]
    assert caplog.record_tuples == [
        ("vsr.somewhere", logging.WARNING, line) for line in ("100 % new", "newer")
    ]


def test_those_who_share_them_say_nothing_twice(caplog):
    notes = Notes()
    first = second = notes.warn
    first("rotation is lost")
    second("rotation is lost")
    assert caplog.messages == list(notes) == ["rotation is lost"]
