"""The service: answers, limits, faults as codes, who may ask."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from discern.models.backbone import BackboneConfig
from discern.models.generator import GeneratorConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import save_bundle
from discern.predict import predict_files
from discern.recipes.certainty import learn_certainty
from discern.security.guard import GuardConfig
from tests.tiny import random_sets

pytest.importorskip("fastapi", reason="FastAPI is missing: pip install 'discern[serve]'")
pytest.importorskip("httpx2", reason="httpx2 is missing, which the tests of the server ask with")
pytest.importorskip("multipart", reason="python-multipart is missing: pip install 'discern[serve]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

from fastapi.testclient import TestClient  # noqa: E402

from discern.serve.app import make_app  # noqa: E402
from discern.serve.settings import ServeConfig, read_token  # noqa: E402

TOKEN = "a-token-of-some-length"


def png(seed: int = 0, side: int = 24) -> bytes:
    drawn = np.random.default_rng(seed)
    pixels = np.kron(drawn.integers(0, 256, (4, 4, 3)), np.ones((side // 4, side // 4, 1)))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "model"
    torch.manual_seed(0)
    shape = BackboneConfig(width=32, depth=1, heads=2, patch=4)
    generator = GeneratorConfig(width=24, depth=1, heads=2, noise=8)
    made = Model(ModelConfig(backbone=shape, generator=generator, classes=3)).eval()
    sets: dict[Any, Any] = dict(random_sets(images=60))
    sure = learn_certainty(made, sets, sets, GuardConfig(false_alarms=0.2), 0)
    size = {"height": 16, "width": 16, "frames": 4, "stored_frames": 6}
    save_bundle(folder, made, labels=list("abc"), preprocess=size, made={}, certainty=sure)
    return folder


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[TestClient]:
    config = ServeConfig(model=str(model), most_bytes=200_000)
    with TestClient(
        make_app(config), base_url="http://127.0.0.1:8000", raise_server_exceptions=False
    ) as one:
        yield one


@pytest.mark.parametrize("form", [True, False])
def test_it_answers_as_predict_does(
    form: bool, client: TestClient, model: Path, tmp_path: Path
) -> None:
    data = png(3)
    (tmp_path / "x.png").write_bytes(data)
    (expected,) = predict_files(model, [tmp_path / "x.png"], top=3)
    sent: dict[str, Any] = {"files": {"file": ("x.png", data)}} if form else {"content": data}
    answer = client.post("/v1/predict?top=3", **sent)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["label"] == expected["label"] and said["unknown"] == expected["unknown"]
    assert said["kind"] == "image" and len(said["top"]) == 3
    assert said["probability"] == pytest.approx(expected["probability"], abs=1e-5)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_it_says_why(client: TestClient) -> None:
    answer = client.post("/v1/explain?method=occlusion", content=png())
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).width > 500
    wrong = client.post("/v1/explain?method=tea-leaves", content=png())
    assert wrong.status_code == 422 and wrong.json()["error"]["code"] == "no_such_method"


def test_what_was_verified_is_what_explains(model: Path, tmp_path: Path) -> None:
    """The bundle is read once: what is put in its place later is not used."""
    import shutil

    folder = Path(shutil.copytree(model, tmp_path / "model"))
    with TestClient(make_app(ServeConfig(model=str(folder))), base_url="http://localhost") as one:
        shutil.rmtree(folder)
        assert one.post("/v1/explain?method=occlusion", content=png()).status_code == 200
        assert one.post("/v1/predict", content=png()).status_code == 200


def test_the_page_stands_alone(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "Drop a picture" in page.text
    assert "http://" not in page.text and "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    said = client.get("/v1/model").json()
    assert said["labels"] == list("abc") and said["guard"] is True and said["gallery"] is False


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 415, "empty"),
        (b"hello", 422, "unreadable"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, 422, "unreadable"),
        (b"\0" * 200_001, 413, "too_large"),
        (png()[:60], 422, "unreadable"),
        (b'{"x": NaN}', 422, "unreadable"),
    ],
)
def test_rubbish_gets_a_code_and_no_trace(
    data: bytes, status: int, code: str, client: TestClient
) -> None:
    answer = client.post("/v1/predict", content=data)
    assert answer.status_code == status and answer.json()["error"]["code"] == code
    assert "/" not in answer.json()["error"]["message"] and "Traceback" not in answer.text


def test_a_bomb_is_refused_before_it_is_decoded(client: TestClient) -> None:
    file = io.BytesIO()
    Image.new("L", (30_000, 30_000)).save(file, "PNG")  # 900 million pixels
    data = file.getvalue()
    assert len(data) > 200_000  # over this server's limit of bytes already
    small = io.BytesIO()
    Image.new("1", (30_000, 20_000)).save(small, "PNG")
    answer = client.post("/v1/predict", content=small.getvalue())
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"


def _form(boundary: str) -> dict[str, str]:
    return {"content-type": f"multipart/form-data{boundary}"}


def test_odd_requests_get_4xx(client: TestClient) -> None:
    checks = [
        (client.post("/v1/predict?top=0", content=png()), 422),
        (client.post("/v1/predict?top=x", content=png()), 422),
        (client.get("/v1/predict"), 405),
        (client.post("/nowhere", content=png()), 404),
        (client.get("/..%2f..%2fetc/passwd"), 404),
        (client.post("/v1/predict", files={"other": ("x", png())}), 422),
        (client.post("/v1/predict", data={"file": "http://127.0.0.1/x.png"}), 422),
        (client.post("/v1/predict", content=png(), headers={"content-encoding": "gzip"}), 415),
        (
            client.post(
                "/v1/predict",
                content=b"--x\r\nbad",
                headers={"content-type": "multipart/form-data; boundary=x"},
            ),
            422,
        ),
        (client.post("/v1/predict", content=b"rubbish", headers=_form("")), 400),
        (client.post("/v1/predict", files=[("file", ("x", b"a"))] * 50), 400),
        (client.post("/v1/gallery/identify", content=png()), 404),
    ]
    for answer, status in checks:
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error"} and answer.json()["error"]["code"]


def test_no_request_gives_a_5xx(client: TestClient) -> None:
    """Altered pictures, forms and headers, by a seed."""
    drawn = np.random.default_rng(0)
    whole = png(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(drawn.integers(1, 6))):
            data[int(drawn.integers(len(data)))] = int(drawn.integers(256))
        kind = ("image/png", "multipart/form-data; boundary=a", "", "text/plain")
        headers = {"content-type": kind[int(drawn.integers(4))]}
        answer = client.post("/v1/predict", content=bytes(data), headers=headers)
        assert answer.status_code < 500, (answer.text, headers)


def test_health_and_metrics_count(client: TestClient) -> None:
    before = client.get("/metrics").text
    client.post("/v1/predict", content=png())
    after = client.get("/metrics").text

    def count(text: str) -> float:
        row = 'discern_requests_total{route="/v1/predict",status="200"}'
        return float(next(x for x in text.splitlines() if x.startswith(row)).rpartition(" ")[2])

    assert count(after) == count(before) + 1
    assert "discern_queue_waiting 0" in after and "discern_faults_total 0" in after, after
    assert client.get("/health").json()["status"] == "ok"
    assert "/v1/predict" in client.get("/openapi.json").json()["paths"]


def test_other_names_of_this_machine_are_refused(client: TestClient) -> None:
    for name, status in (("evil.example", 403), ("127.0.0.1:8000", 200), ("localhost", 200)):
        answer = client.get("/v1/model", headers={"host": name})
        assert answer.status_code == status, name


def test_a_token_is_asked_for(model: Path) -> None:
    config = ServeConfig(model=str(model), token=TOKEN)
    with TestClient(make_app(config), base_url="http://localhost") as one:
        for headers in ({}, {"authorization": "Bearer no"}, {"authorization": TOKEN}):
            for path in ("/v1/model", "/metrics", "/openapi.json"):
                answer = one.get(path, headers=headers)
                assert (
                    answer.status_code == 401 and answer.json()["error"]["code"] == "unauthorized"
                )
            assert one.post("/v1/predict", content=png(), headers=headers).status_code == 401
        good = {"authorization": f"Bearer {TOKEN}"}
        assert one.post("/v1/predict", content=png(), headers=good).status_code == 200
        assert one.get("/health").status_code == one.get("/").status_code == 200


def test_no_request_opens_a_connection(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a connection to the outside")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert client.post("/v1/predict", content=png()).status_code == 200
    assert client.post("/v1/predict", content=b"http://example.org/x.png").status_code == 422


def test_a_full_queue_answers_503_with_a_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from discern.serve.queue import Batcher, Busy

    def full(self: Batcher, frames: np.ndarray) -> Any:
        raise Busy

    monkeypatch.setattr(Batcher, "ask", full)
    with TestClient(make_app(ServeConfig(model=str(model))), base_url="http://localhost") as one:
        answer = one.post("/v1/predict", content=png())
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == "busy"


def test_a_fault_of_ours_shows_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from discern.serve.engine import Engine

    def broken(*arguments: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(Engine, "said", broken)
    app = make_app(ServeConfig(model=str(model)))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as one:
        answer = one.post("/v1/predict", content=png())
    assert answer.status_code == 500 and "secret" not in answer.text


def test_tokens_are_read_from_files(tmp_path: Path) -> None:
    from discern.errors import UsageError

    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\nmore")
    assert read_token(file) == TOKEN
    file.write_text("short")
    with pytest.raises(UsageError, match="16"):
        read_token(file)
    with pytest.raises(UsageError, match="missing"):
        read_token(tmp_path / "missing")


def test_freed_memory_is_given_back_again_and_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discern.serve import app as service

    given: list[str] = []
    monkeypatch.setattr(service, "TIDY_SECONDS", 0.01)
    monkeypatch.setattr(service, "give_back", lambda: given.append(threading.current_thread().name))
    with TestClient(make_app(ServeConfig(model=str(model))), base_url="http://localhost") as client:
        ends = time.monotonic() + 10
        while len(given) < 3 and time.monotonic() < ends:
            assert client.get("/health").status_code == 200
    assert len(given) >= 3 and all(name.startswith("decode") for name in given)
    counted = len(given)
    time.sleep(0.1)
    assert len(given) <= counted + 1  # it ends with the service
