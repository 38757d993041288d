"""Needs of packets, compared with an oracle that sees the whole stream."""

import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decoding import lookahead
from pipelines.decoding.lookahead import Lookahead, Need


@dataclass(frozen=True)
class Packet:
    pts: int | None
    is_keyframe: bool = False
    size: int = 1
    is_discard: bool = False
    begins_anew: bool = False


@st.composite
def streams(draw):
    """Groups of pictures, whose frames are decoded up to a few places away from where they are shown."""
    packets, begin = [], 0
    for length in draw(st.lists(st.integers(1, 40), min_size=1, max_size=8)):
        times = [begin, *sorted(range(begin + 1, begin + length), key=_shuffled(draw))]
        packets += [Packet(pts, is_keyframe=pts == begin) for pts in times]
        packets[begin] = Packet(begin, is_keyframe=True, begins_anew=draw(st.booleans()))
        begin += length
    return packets


def _shuffled(draw):
    reach = draw(st.sampled_from([0, 3, 8]))
    order = random.Random(draw(st.integers(0, 99)))
    return lambda pts: (pts + order.uniform(0, reach), pts)


def needs(packets, wanted):
    ahead = Lookahead(packets, lambda: wanted, lambda packet: packet.begins_anew)
    return [(packet, need) for packet, need, _ in ahead]


def needed(packets, used):
    """Returns the needs by looking at all later packets, up to one group ahead."""
    table = []
    for place, packet in enumerate(packets):
        need = Need.NOTHING
        keys = []
        for later in packets[place:]:
            keys += [later] * (later.is_keyframe and later is not packet)
            if later.pts in used and len(keys) <= 1 and not any(k.begins_anew for k in keys):
                need = Need.REFERENCE
        table.append(Need.PICTURE if packet.pts in used else need)
    return table


class TestLookahead:
    @given(packets=streams(), data=st.data())
    @settings(max_examples=100, deadline=None)
    def test_needs_match_whole_stream(self, packets, data):
        times = sorted(packet.pts for packet in packets)
        used = data.draw(st.sets(st.sampled_from(times), max_size=5)) | {times[-1]}
        result = needs(packets, lambda pts, until: pts in used)
        assert [packet for packet, _ in result] == packets
        assert [need for _, need in result] == needed(packets, used)

    @given(packets=streams())
    @settings(max_examples=30, deadline=None)
    def test_until_is_time_of_next_frame(self, packets):
        times = sorted(packet.pts for packet in packets)
        asked = {}

        def wanted(pts, until):
            asked[pts] = until
            return False

        told = {packet.pts: until for packet, _, until in Lookahead(packets, lambda: wanted)}
        assert told == asked == dict(zip(times, [*times[1:], None], strict=True))

    def test_packets_without_time_are_decoded(self):
        packets = [Packet(0, True), Packet(None), Packet(2), Packet(3, True), Packet(4)]
        result = [need for _, need in needs(packets, lambda pts, until: False)]
        assert result == [Need.REFERENCE, Need.PICTURE, *[Need.NOTHING] * 3]

    def test_empty_last_packet_is_passed_on(self):
        packets = [Packet(0, True), Packet(1), Packet(None, size=0)]
        assert needs(packets, lambda pts, until: False)[-1] == (packets[-1], Need.PICTURE)

    def test_nothing_is_read_ahead_while_all_frames_are_used(self):
        read = []
        packets = (read.append(pts) or Packet(pts, pts % 5 == 0) for pts in range(40))
        choice = []
        table = []
        for count, (_, need, _) in enumerate(
            Lookahead(packets, lambda: choice[0] if choice else None)
        ):
            table.append(need)
            if count < 10:
                assert len(read) == count + 1
            if count == 9:
                choice.append(lambda pts, until: pts == 36)
        assert table[:10] == [Need.PICTURE] * 10
        assert table[10:] == needed([Packet(p, p % 5 == 0) for p in range(40)], {36})[10:]

    @given(limit=st.integers(0, 60), last=st.integers(0, 59))
    @settings(max_examples=50, deadline=None)
    def test_large_packets_limit_read_ahead(self, limit, last):
        packets = [Packet(pts, pts % 10 == 0) for pts in range(60)]
        whole = lookahead._MAX_BYTES
        lookahead._MAX_BYTES = limit
        try:
            result = [need for _, need in needs(packets, lambda pts, until: pts == last)]
        finally:
            lookahead._MAX_BYTES = whole
        exact = needed(packets, {last})
        # What is needed always is; and decoding begins with keyframes.
        pairs = zip(result, exact, strict=True)
        assert all(e is Need.NOTHING for need, e in pairs if need is Need.NOTHING)
        for place in range(1, 60):
            if result[place - 1] is Need.NOTHING and result[place] is not Need.NOTHING:
                assert place % 10 == 0

    def test_oracle_detects_needed_packets(self):
        packets = [Packet(pts, pts % 10 == 0) for pts in range(60)]
        table = needed(packets, {35})
        assert [table.index(Need.REFERENCE), table.index(Need.PICTURE)] == [20, 35]
        assert set(table[36:]) == {Need.NOTHING}
