"""Speed: the throughput of the pipeline beside a bare server, with a floor that only a regression breaks."""

from __future__ import annotations

from benchmarks.serving import rows

FLOOR = 0.3  # 0.7 to 0.9 on two quiet cores; continuous integration shares its own


def test_the_pipeline_keeps_up_with_a_bare_server() -> None:
    found = {row["name"]: row for row in rows(rounds=3, seconds=0.4, peers=False)}
    assert set(found) == {"serving_c1", "serving_c8", "serving_c32"}
    print({name: round(row["ratio"], 2) for name, row in found.items()})
    assert found["serving_c32"]["ratio"] > FLOOR
    assert found["serving_c1"]["p50_added_ms"] < 2.0
