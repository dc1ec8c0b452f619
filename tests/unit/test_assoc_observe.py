"""What can be asked of an association worker."""

from streamer.association.observe import WorkerObserver, age_s
from streamer.association.share import Share
from streamer.config import Config
from streamer.metrics import WORKER_SERIES, Exporter
from streamer.reload import Reloads


def observer(age: float | None = 20.0, lag: int | None = 7) -> WorkerObserver:
    counts = {"picks": 9, "duplicates": 2, "events_final": 3, "dead_letters": 1}
    shares = {("CI.PASC", "P"): Share(8, 6, 80, 50), ("CI.NEW", "S"): Share(0, 0, 0, 0)}
    collapsed = {("CI.PASC", "P")}
    return WorkerObserver(
        lambda: counts, lambda: age, lambda: shares, lambda: collapsed, lambda: lag, Reloads(Config)
    )


def test_every_series_of_a_worker_is_exported_with_its_values() -> None:
    read = observer().read()
    assert set(read) == {series.name for series in WORKER_SERIES}
    assert read["msnet_association_picks_total"]["taken",] == 9  # type: ignore[index]
    assert read["msnet_events_total"] == {("final",): 3.0}
    assert read["msnet_station_rsv_ratio"] == {("CI", "PASC", "P"): 0.75}
    assert read["msnet_station_rsv_collapsed"] == {
        ("CI", "PASC", "P"): 1.0, ("CI", "NEW", "S"): 0.0,
    }  # fmt: skip
    text = Exporter(observer().read).render().decode()
    assert 'msnet_stream_lag{group="assoc"} 7.0' in text


def test_what_is_not_known_is_absent_and_not_zero() -> None:
    read = observer(age=None, lag=None).read()
    assert "msnet_stream_lag" not in read
    assert "msnet_association_watermark_age_seconds" not in read
    assert age_s(0, 5) is None
    assert age_s(10**9, 3 * 10**9) == 2.0


def test_a_worker_is_ready_while_picks_are_complete_up_to_lately() -> None:
    assert observer().why_not_ready() is None
    assert observer(age=None).why_not_ready() == "nothing has been heard of any picker"
    assert "900 s ago" in str(observer(age=900.0).why_not_ready())
