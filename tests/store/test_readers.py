"""What was read and went meanwhile is not used."""

from support.stores import make_entry

from cacheproxy.store.readers import Readers

ONE, OTHER = make_entry("one"), make_entry("other")


def test_what_went_during_a_reading_is_left_out_of_it():
    readers = Readers()
    with readers.reading() as first:
        readers.told([ONE.id])
        with readers.reading() as second:
            readers.told([OTHER.id])
            assert first.usable([ONE, OTHER]) == []
            assert second.usable([ONE, OTHER]) == [ONE]
    readers.told([ONE.id])
    with readers.reading() as third:
        assert third.usable([ONE, OTHER]) == [ONE, OTHER]


def test_when_anything_may_have_gone_nothing_is_used():
    readers = Readers()
    with readers.reading() as reading:
        readers.told([None])
        assert reading.usable([ONE]) == []
