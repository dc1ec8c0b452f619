"""The first inputs of the fuzzer: one of each kind of message, small; rewrites the corpus."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from pymseed import DataEncoding, MS3Record

from streamer.seedid import Nslc
from streamer.seedlink.info import ServerInfo, StationInfo, StreamInfo, info_v3, info_v4
from streamer.seedlink.protocol import packet_v3, packet_v4
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode

CORPUS = Path(__file__).parent / "corpus"
START_NS = 1_600_000_000 * NS_PER_S
NSLC = Nslc("CX", "PB01", "", "HHZ")


def mseed(version: int, encoding: DataEncoding, record_bytes: int) -> bytes:
    template = MS3Record(reclen=record_bytes, encoding=encoding)
    template.sourceid, template.samprate = "FDSN:CX_PB01__H_H_Z", 100.0
    template.starttime, template.formatversion = START_NS, version
    kind = {DataEncoding.FLOAT32: "f", DataEncoding.FLOAT64: "d", DataEncoding.TEXT: "t"}
    letter = kind.get(encoding, "i")
    samples = {"f": np.arange(40, dtype=np.float32), "d": np.arange(20, dtype=np.float64)}
    data = b"log line" if letter == "t" else samples.get(letter, np.arange(40, dtype=np.int32))
    return next(iter(template.generate(data, letter)))


def main() -> None:
    encodings = (DataEncoding.STEIM1, DataEncoding.STEIM2, DataEncoding.INT16, DataEncoding.INT32,
                 DataEncoding.FLOAT32, DataEncoding.FLOAT64, DataEncoding.TEXT)  # fmt: skip
    records = {
        f"v{version}-{encoding.name.lower()}": mseed(version, encoding, 256)
        for version in (2, 3)
        for encoding in encodings
    }
    (plain,) = encode(Record(NSLC, START_NS, Fraction(100), np.arange(50, dtype=np.int32)))
    records["v2-512"] = plain
    stream = StreamInfo(NSLC, START_NS, START_NS + NS_PER_S, [(START_NS, START_NS + 1)])
    server = ServerInfo("SeedLink v4.0", "fuzz", 0, [StationInfo("CX", "PB01", 1, 2, [stream])], ())
    small = records["v2-steim2"]
    v4 = packet_v4(1, "CX_PB01", small) + packet_v4(2, "CX_PB01", small)
    v3 = packet_v3(1, small) + packet_v3(0xFFFFFF, records["v3-steim2"])
    talk_v3 = b"HELLO\r\nSTATION PB01 CX\r\nSELECT HHZ\rDATA 1F 2020,1,2\r\nEND\r\n"
    talk_v4 = b"SLPROTO 4.0\r\nSTATION CX_*\rSELECT *_Z\rDATA ALL 2020-01-01T00:00:00Z\rEND\r"
    answer_v4 = info_v4(["STREAMS"], server)
    answer_v3 = b"".join(info_v3("STREAMS", server, START_NS))
    sets = {
        "records": records,
        "packets_v3": {
            "two": b"\xff" + v3 + b"END",
            "info": b"\x20" + answer_v3 + b"ERROR BUSY\r\n",
            "garbage": b"\x40" + packet_v3(1, small) + b"x" * 70 + packet_v3(2, small),
        },
        "packets_v4": {
            "two": b"\xff" + v4 + b"END",
            "info": b"\x20" + answer_v4 + packet_v4(9, "CX_PB01", records["v3-steim2"], b"3D"),
            "garbage": b"\x40" + b"x" * 70 + packet_v4(2, "CX_PB01", small) + b"ERROR X y\r\n",
        },
        "listings": {
            "json": b"\x00" + answer_v4[17:],
            "xml": b"\xff" + b"".join(
                answer_v3[at + 64 : at + 520].rstrip(b"\0") for at in range(0, len(answer_v3), 520)
            ),
        },
        "commands": {
            "v3": b"\xff" + talk_v3,
            "v4": b"\x01" + talk_v4,
        },
    }  # fmt: skip
    for target, inputs in sets.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
