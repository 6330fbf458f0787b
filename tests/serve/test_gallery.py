"""The service's gallery and the run that it shows: who may write, what is told, what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.errors import UsageError
from discern.gallery.people import enroll
from discern.serve.watch import MOST_POINTS, Watched, curves
from tests.serve.test_app import TestClient, make_app, png
from tests.serve.test_app import model as model  # the fixture

ServeConfig = pytest.importorskip("discern.serve.settings").ServeConfig
HERE = "http://127.0.0.1:8000"


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A server that may write a gallery which is not there yet, and watches a run."""
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"verb": "pretrain"}))
    rows = [
        {"step": i, "minutes": i / 10, "progress": i / 20, "view": 5 - i / 5, "knn_images": i / 40}
        for i in range(1, 11)
    ]
    rows.insert(5, {"step": 5, "event": "the fakes look all alike"})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "log.jsonl").write_text(text + '{"step": 11, "minu')  # a line that is being written
    Image.new("RGB", (8, 8)).save(run / "samples" / "generated_images.png")
    config = ServeConfig(
        model=str(model),
        gallery=str(tmp_path / "people.gallery"),
        may_enroll=True,
        watch=str(run),
        most_enrolled=3,
    )
    with TestClient(make_app(config), base_url=HERE, raise_server_exceptions=False) as one:
        yield one, tmp_path


def test_people_are_enrolled_listed_named_and_forgotten(place: tuple[Any, Path]) -> None:
    client, _ = place
    assert client.get("/v1/gallery").json()["names"] == []
    for seed in (1, 2):
        said = client.post("/v1/gallery/enroll?name=Ann", content=png(seed))
        assert said.status_code == 200, said.text
    assert said.json() == {"name": "Ann", "pictures": 2, "names": 1}
    client.post("/v1/gallery/enroll?name=Bo", files={"file": ("x.png", png(3))})
    listed = client.get("/v1/gallery").json()
    assert listed["names"] == [{"name": "Ann", "pictures": 2}, {"name": "Bo", "pictures": 1}]
    found = client.post("/v1/gallery/identify", content=png(3)).json()
    assert found["name"] == "Bo" and found["top"][0]["score"] > 0.99
    full = client.post("/v1/gallery/enroll?name=Cy", content=png(4))
    assert full.status_code == 422 and "full" in full.json()["error"]["message"]
    assert client.delete("/v1/gallery?name=Bo").json()["names"] == 1
    gone = client.delete("/v1/gallery?name=Bo")
    assert gone.status_code == 404 and gone.json()["error"]["code"] == "not_enrolled"
    assert client.post("/v1/gallery/identify", content=png(3)).json()["top"][0]["name"] == "Ann"


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 201])
def test_odd_names_are_refused_without_a_path(name: str, place: tuple[Any, Path]) -> None:
    client, folder = place
    said = client.post("/v1/gallery/enroll", params={"name": name}, content=png())
    assert said.status_code == 422
    assert str(folder) not in said.text and "gallery" not in said.text.partition("message")[0]


def test_nobody_writes_where_it_was_not_allowed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png())
    enroll(tmp_path / "g", "Ann", [tmp_path / "x.png"], model=model)
    before = (tmp_path / "g").read_bytes()
    config = ServeConfig(model=str(model), gallery=str(tmp_path / "g"))
    with TestClient(make_app(config), base_url=HERE) as client:
        assert client.get("/v1/model").json()["may_enroll"] is False
        for answer in (
            client.post("/v1/gallery/enroll?name=Bo", content=png()),
            client.delete("/v1/gallery?name=Ann"),
        ):
            assert answer.status_code == 403 and answer.json()["error"]["code"] == "read_only"
        assert client.get("/v1/run").json()["error"]["code"] == "no_run"
    assert (tmp_path / "g").read_bytes() == before
    with TestClient(make_app(ServeConfig(model=str(model))), base_url=HERE) as client:
        assert client.get("/v1/gallery").json()["error"]["code"] == "no_gallery"


def test_a_page_of_somebody_else_may_not_enrol(place: tuple[Any, Path]) -> None:
    client, _ = place
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        said = client.post(
            "/v1/gallery/enroll?name=Eve", content=png(), headers={"Sec-Fetch-Site": site}
        )
        assert said.status_code == status, site
    # but a link to the page itself works
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    assert client.get("/v1/run", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_gallery_of_another_model_is_refused_at_the_start(model: Path, tmp_path: Path) -> None:
    from tests.tiny import a_model

    other = a_model(tmp_path / "other")
    (tmp_path / "x.png").write_bytes(png())
    enroll(tmp_path / "g", "Ann", [tmp_path / "x.png"], model=other)
    with pytest.raises(UsageError, match="another model"):
        make_app(ServeConfig(model=str(model), gallery=str(tmp_path / "g")))


def test_a_run_is_shown_as_far_as_it_is(place: tuple[Any, Path]) -> None:
    client, folder = place
    said = client.get("/v1/run").json()
    assert said["verb"] == "pretrain" and said["name"] == "run" and not said["finished"]
    assert said["progress"] == 0.5 and said["step"] == 10
    assert list(said["curves"]) == ["knn_images", "view"]  # what one looks for first
    assert said["curves"]["view"][-1] == [1.0, 3.0] and len(said["curves"]["view"]) == 10
    assert said["events"] == ["the fakes look all alike"]
    assert said["samples"] == ["generated images"]
    sheet = client.get("/v1/run/samples/0")
    assert sheet.status_code == 200 and sheet.headers["content-type"] == "image/png"
    for number in (1, -1):
        assert client.get(f"/v1/run/samples/{number}").status_code == 404
    assert client.get("/v1/run/samples/..%2fconfig.json").status_code in (404, 422)
    (folder / "run" / "results.json").write_text(json.dumps({"stopped_by": "minutes"}))
    assert client.get("/v1/run").json()["finished"] is True
    assert str(folder) not in client.get("/v1/run").text


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    rows = [{"minutes": i, "view": float(i), "step": i, "bad": float("nan")} for i in range(5000)]
    found = curves(rows)["view"]
    assert len(found) == MOST_POINTS and found[0] == [0, 0] and found[-1] == [4999, 4999]
    assert "bad" not in curves(rows)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run"):
        Watched(tmp_path)
    (tmp_path / "config.json").write_text("{")
    said = Watched(tmp_path).state()
    assert said["curves"] == {} and said["samples"] == []
    (tmp_path / "log.jsonl").write_bytes(np.random.default_rng(0).bytes(1000))
    assert Watched(tmp_path).state()["step"] is None
