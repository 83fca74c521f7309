from fractions import Fraction
from itertools import pairwise

import pytest

from vsr.sources.timestamps import DecodingClock, Timeline, nominal_rate

MS = Fraction(1, 1000)
CLOCK = Fraction(1, 90_000)
NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)


def place_all(timeline: Timeline, pairs: list[tuple[int | None, int | None]]) -> list[int]:
    return [timeline.place(pts, dts)[0] for pts, dts in pairs]


def test_sound_timestamps_are_kept() -> None:
    timeline = Timeline(40)
    times: list[tuple[int | None, int | None]] = [(0, 0), (34, 34), (134, 134), (150, 150)]
    assert place_all(timeline, times) == [0, 34, 134, 150]
    assert timeline.repaired == 0


def test_backward_timestamp_takes_the_decoding_time() -> None:
    # archivematica/0239.mpg: the first key frame claims to be shown before what precedes it.
    timeline = Timeline(40040)
    pairs: list[tuple[int | None, int | None]] = [
        (40040, 40040), (80080, 80080), (0, 120120), (160160, 160160),
    ]  # fmt: skip
    assert place_all(timeline, pairs) == [40040, 80080, 120120, 160160]
    assert timeline.repaired == 1


def test_without_a_usable_decoding_time_the_median_spacing_goes_on() -> None:
    timeline = Timeline(7)
    pairs: list[tuple[int | None, int | None]] = [
        (0, 0), (40, 40), (80, 80), (None, None), (5, 5), (160, None), (None, 90),
    ]  # fmt: skip
    assert place_all(timeline, pairs) == [0, 40, 80, 120, 160, 180, 220]
    assert timeline.repaired == 4


def following(timeline: Timeline, times: list[int]) -> list[int]:
    pairs = zip(times, [*times[1:], None], strict=True)
    return [timeline.place(pts, None, following=after)[0] for pts, after in pairs]


def test_one_bad_timestamp_moves_no_other_frame() -> None:
    even = list(range(0, 2000, 40))
    for index, wrong in ((20, 760), (20, 755), (20, 2800), (20, 100), (49, 0)):
        times = even.copy()
        times[index] = wrong
        timeline = Timeline(40)
        found = following(timeline, times)
        assert found[index] == even[index]
        assert found == even
        assert timeline.repaired == 1


def test_pulldown_with_a_time_twice_goes_on_as_it_was() -> None:
    film = [0, 50, 83, 133, 167, 217, 250, 300, 333, 383, 417, 467]
    times = [*film[:6], film[5], *film[6:]]  # one more frame, where two recordings were joined
    found = following(Timeline(42), times)
    assert found[:6] + found[7:] == film
    assert film[5] < found[6] < film[6]


def test_a_clock_that_is_behind_is_caught_up_with() -> None:
    times = [0, 40, 80, 80, 80, 80, *range(120, 1000, 40)]  # and nothing is known of what follows
    timeline = Timeline(40)
    found = [timeline.place(pts, None)[0] for pts in times]
    assert found == sorted(set(found))
    assert found[-1] == times[-1]


def test_a_clock_that_was_set_anew_keeps_its_spacing() -> None:
    times = [*range(0, 4000, 40), *range(0, 2000, 20)]
    found = following(Timeline(40), times)
    assert found[:100] == times[:100]
    assert found[100] == 4000
    assert [b - a for a, b in pairwise(found[100:])] == [20] * 99


def test_frames_without_times_last_as_long_as_they_say() -> None:
    timeline = Timeline(40)  # a program stream of film for 60 fields a second
    found = [timeline.place(None, None, lasting)[0] for lasting in (33, 50) * 3]
    assert found == [0, 33, 83, 116, 166, 199]


def test_repairs_do_not_shift_the_median() -> None:
    timeline = Timeline(1000)
    timeline.place(0, None)
    for _ in range(9):
        timeline.place(None, None)
    assert timeline.step == 1000
    assert timeline.place(9040, None) == (9040, False)
    assert timeline.step == 40


def test_without_any_timestamps_the_nominal_step_counts() -> None:
    timeline = Timeline(48000)
    assert place_all(timeline, [(None, None)] * 3) == [0, 48000, 96000]
    assert timeline.repaired == 3


@pytest.mark.parametrize(
    ("declared", "spacings", "last", "expected"),
    [
        ([34, 100, 250], [34, 100, 250], 67, 67),  # durations were right so far
        ([33, 33, 33], [33, 34, 33], 33, 33),  # right within the rounding of milliseconds
        ([1, 1, 1], [33, 34, 33], 1, 33),  # Matroska without a default duration
        ([0, 0, 0], [3750, 3750, 3750], 0, 3750),  # transport stream
        ([1, 1, 1], [2, 2, 2], 1, 2),  # GXF, of fields
        ([12000, 9, 9], [3000, 3000, 3000], 11973, 3000),  # Samsung slow motion
        ([], [], 512, 512),  # a single frame
        ([], [], 0, 40),
    ],
)
def test_last_duration(declared: list[int], spacings: list[int], last: int, expected: int) -> None:
    timeline = Timeline(40)
    now = 0
    for duration, spacing in zip(declared, spacings, strict=True):
        timeline.place(now, None, duration)
        now += spacing
    timeline.place(now, None, last)
    assert timeline.last_duration() == expected


def test_frames_are_as_far_apart_as_the_packets_that_push_them_out() -> None:
    clock = DecodingClock()
    # x264's pyramid in AVI: two packets are held, and a frame was dropped after the second one.
    pushed, coded = [2, 3, 5, 6, 7, None, None], [0, 2, 1, 6, 5, 3, 7]
    found = [clock.time(dts, own, 1) for dts, own in zip(pushed, coded, strict=True)]
    assert found == [0, 1, 3, 4, 5, 6, 7]


def test_the_delay_of_a_decoder_stays_when_it_begins_elsewhere() -> None:
    clock = DecodingClock()
    assert [clock.time(2, 0, 1), clock.time(3, 2, 1)] == [0, 1]
    clock.begin_again()
    assert [clock.time(19, 12, 1), clock.time(20, 14, 1)] == [17, 18]  # a gap after the key frame


def test_what_never_left_the_decoder_is_counted_from_its_packet() -> None:
    clock = DecodingClock()
    assert [clock.time(None, 5, 2), clock.time(None, 7, 2)] == [5, 7]
    assert DecodingClock().time(None, None, 2) is None


def rounded(rate: Fraction, count: int, time_base: Fraction) -> list[int]:
    return [round(i / rate / time_base) for i in range(count)]


@pytest.mark.parametrize("rate", [FILM, 24, 25, NTSC, 30, 50, Fraction(60000, 1001), 60, 16, 18])
def test_common_rates_are_recognised_from_milliseconds(rate: Fraction | int) -> None:
    times = rounded(Fraction(rate), 1000, MS)
    # Matroska and FLV without a default duration claim the clock as the rate.
    assert nominal_rate(times, MS, [Fraction(1000)]) == rate


def shown_for(fields: list[int], time_base: Fraction) -> list[int]:
    spots = [sum(fields[:index]) for index in range(len(fields) + 1)]
    return [round(spot * Fraction(1001, 60000) / time_base) for spot in spots]


@pytest.mark.parametrize("time_base", [MS, CLOCK])
@pytest.mark.parametrize(
    "fields",
    [
        [2, 3] * 24,
        [3, 2] * 5,
        [2, 3, 3, 2] * 12,  # as cameras do it
        [2, 3] * 10 + [3, 2] * 12,  # one cut
    ],
)
def test_film_for_two_and_three_fields_has_the_rate_of_film(
    fields: list[int], time_base: Fraction
) -> None:
    claims = [NTSC, Fraction(179, 6), Fraction(60000, 1001)]
    assert nominal_rate(shown_for(fields, time_base), time_base, claims) == FILM


def test_two_spacings_without_a_cadence_are_no_film() -> None:
    phone = [2, 2, 3, 2, 2, 2, 3, 3, 2, 3, 2, 2, 2, 3, 3, 3, 2, 2, 3, 3, 3, 3, 2, 2, 2, 2, 3]
    assert nominal_rate(shown_for(phone, CLOCK), CLOCK, [NTSC]) == NTSC
    film_and_video = [2, 3] * 10 + [2] * 27
    assert nominal_rate(shown_for(film_and_video, CLOCK), CLOCK, [NTSC]) == NTSC
    halved = [30, 60] * 20  # two to one
    assert nominal_rate([sum(halved[:n]) for n in range(41)], MS, []) == Fraction(100, 3)


@pytest.mark.parametrize("rate", [FILM, Fraction(24), NTSC, Fraction(30)])
def test_a_claim_decides_between_close_rates(rate: Fraction) -> None:
    assert nominal_rate(rounded(rate, 20, MS), MS, [Fraction(1000), rate]) == rate


def test_a_claim_on_whose_grid_frames_stand_counts_though_spacings_say_less() -> None:
    """Film whose durations are whole milliseconds, in a finer base; and what was rounded twice."""
    in_milliseconds = [90 * time for time in rounded(FILM, 24, MS)]
    assert nominal_rate(in_milliseconds, CLOCK, [FILM]) == FILM
    stretched = FILM * 24 / 25
    twice = [round(Fraction(time) * 25 / 24) for time in rounded(FILM, 48, MS)]
    assert nominal_rate(twice, MS, [Fraction(1000), stretched]) == stretched
    missing = [time for number, time in enumerate(twice) if number not in (9, 10, 30)]
    assert nominal_rate(missing, MS, [stretched]) == stretched


def test_a_claim_that_is_exact_comes_before_a_common_rate() -> None:
    """Of 48 frames of 24.02 a second, 24 is off by 1.6 ms."""
    rate = Fraction(1201, 50)
    assert nominal_rate([*range(48)], 1 / rate, [Fraction(24), rate]) == rate


def test_claims_of_another_grid_do_not_count() -> None:
    times = rounded(Fraction(25), 40, MS)
    for claim in (24, Fraction(25, 2), 50, 1000, NTSC):
        assert nominal_rate(times, MS, [Fraction(claim)]) == 25
    assert nominal_rate(rounded(FILM, 40, MS), MS, [Fraction(30), FILM]) == FILM


@pytest.mark.parametrize(
    ("times", "time_base", "claims", "expected"),
    [
        ([*range(0, 30 * 1001, 1001), 31000], Fraction(1, 30000), [Fraction(300000, 10201)], NTSC),
        ([0, 33, 67, 100], MS, [Fraction(2997, 100)], NTSC),  # a claim that was rounded
        (range(0, 90000, 3001), Fraction(1, 90000), [Fraction(90000, 3001)], Fraction(90000, 3001)),
        ([0, 11250, 15000, 18749, 22500, 26250], Fraction(1, 90000), [Fraction(24)], Fraction(24)),
        ([0, 16384, 32768], Fraction(1, 16384), [], Fraction(1)),
        ([80, 0, 40, 120, 40], MS, [], Fraction(25)),  # decoding order, and one twice
        ([*range(46), 48, 49], Fraction(1, 25), [Fraction(25)], Fraction(25)),  # some yet to come
        ([0, 2, 5, 7, 10], Fraction(1, 60), [Fraction(24)], Fraction(24)),  # rounded to ticks
    ],
)
def test_rates_seen_in_the_wild(
    times: list[int], time_base: Fraction, claims: list[Fraction], expected: Fraction
) -> None:
    assert nominal_rate(times, time_base, claims) == expected


def test_without_spacing_a_plausible_claim_counts() -> None:
    assert nominal_rate([0], MS, [Fraction(1000), NTSC]) == NTSC
    assert nominal_rate([], MS, [Fraction(60000)]) == 25
