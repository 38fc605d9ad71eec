"""Folding and alphabets, as tables."""

import pytest

from kdltr_core.charset import Charset36, Charset94, fold


@pytest.mark.parametrize(
    ("text", "protocol", "expected"),
    [
        ("CAFE", "36", "cafe"),
        ("CAFE", "62", "CAFE"),
        ("don't", "36", "dont"),
        ("don't", "62", "dont"),
        ("don't", "94", "don't"),
        ("St. 42!", "36", "st42"),
        ("St. 42!", "62", "St42"),
        ("St. 42!", "94", "St.42!"),
        ("CAFÉ", "36", "cafe"),  # in basic letters, as PARSeq's evaluation has it
        ("cafe\u0301", "94", "cafe"),  # a letter and its mark
        ("Straße", "62", "Strasse"),
        ("Łódź, Ærø", "94", "Lodz,AEro"),
        ("ﬁn ²½", "94", "fin21/2"),
        ("“don’t”", "94", '"don\'t"'),
        ("\u0130K", "36", "ik"),  # dotted I
        ("\u212a", "36", "k"),  # the Kelvin sign
        ("Москва1", "36", "1"),  # other scripts are in no protocol
        ("\u0663", "36", ""),  # Arabic 3: a digit, but not an ASCII one
        ("!!", "36", ""),
        ("", "94", ""),
        ("a b\tc\n", "94", "abc"),
    ],
)
def test_fold_keeps_what_the_protocol_compares(text, protocol, expected):
    assert fold(text, protocol) == expected


@pytest.mark.parametrize("protocol", ["36", "62", "94"])
def test_folding_twice_is_folding_once(protocol):
    text = "Don't STOP at 10%, café!"
    assert fold(fold(text, protocol), protocol) == fold(text, protocol)


def test_an_unknown_protocol_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'37'.*expected '36', '62' or '94'"):
        fold("a", "37")


@pytest.mark.parametrize(
    ("charset", "label", "ids"),
    [
        (Charset36, "a", [1]),
        (Charset36, "Z9", [26, 35]),
        (Charset36, "0", [36]),  # after 1 to 9, as the official ABINet files have it
        (Charset36, "don't", [4, 15, 14, 20]),  # the apostrophe is dropped, never turned into end
        (Charset94, "0", [1]),
        (Charset94, "aA", [11, 37]),
        (Charset94, "!", [63]),
        (Charset94, "~", [94]),
        (Charset94, "é~", [15, 94]),
        (Charset94, "я~", [94]),
    ],
)
def test_encode_gives_the_official_class_ids(charset, label, ids):
    assert charset.encode(label) == ids


@pytest.mark.parametrize(
    ("charset", "num_classes", "begin_id", "pad_id"), [(Charset36, 37, 37, 38), (Charset94, 95, 95, 96)]
)
def test_special_ids_are_those_of_the_official_checkpoints(charset, num_classes, begin_id, pad_id):
    found = (charset.end_id, charset.num_classes, charset.begin_id, charset.pad_id)
    assert found == (0, num_classes, begin_id, pad_id)


@pytest.mark.parametrize(
    ("charset", "ids", "text"),
    [
        (Charset36, [1, 2, 0, 3], "ab"),  # what comes after the first end does not count
        (Charset36, [0], ""),
        (Charset36, [], ""),
        (Charset94, [1, 37, 94], "0A~"),  # a reading without an end is whole
    ],
)
def test_decode_stops_at_the_first_end(charset, ids, text):
    assert charset.decode(ids) == text


def test_every_character_survives_encode_and_decode():
    for charset in (Charset36, Charset94):
        assert charset.decode(charset.encode(charset.characters)) == charset.characters
        assert len(set(charset.characters)) == len(charset.characters)


@pytest.mark.parametrize(("charset", "label"), [(Charset36, "!?"), (Charset36, ""), (Charset94, "\u65e5\u672c")])
def test_a_label_without_an_encodable_character_is_refused(charset, label):
    with pytest.raises(ValueError, match=f"no character of the {charset.name} alphabet"):
        charset.encode(label)


@pytest.mark.parametrize(
    ("charset", "label", "outside", "too_much"),
    [
        (Charset36, "CAFÉ", "", False),
        (Charset36, "don't", "'", False),
        (Charset36, "(?)a", "(?)", False),  # punctuation is what 36 characters leave out by intention
        (Charset94, "Ωmega 5", "Ω", False),  # 1 of 6
        (Charset94, "Ωme", "Ω", True),  # 1 of 3
        (Charset94, "Ωmeg", "Ω", False),  # a quarter
        (Charset36, "Москва1", "москва", True),
    ],
)
def test_what_an_alphabet_leaves_out_of_a_label_is_told(charset, label, outside, too_much):
    assert (charset.outside(label), charset.loses_too_much(label)) == (outside, too_much)
