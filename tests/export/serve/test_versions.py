"""The server: batches of requests, versions that come and go, health, metrics and the page."""

import concurrent.futures
import json
import re
import shutil
import threading

from tests.export.serve.conftest import MODEL, PREDICT, eventually, is_error, put, serving, states


def test_rows_of_requests_at_once_are_computed_together_and_not_mixed(client):
    def ask(n):
        return client.post(
            PREDICT, json={"signature_name": ["encode", "reconstruct"][n % 2], "inputs": [[n, n + 1, 0]]}
        )

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = [answer.json()["outputs"] for answer in threads.map(ask, range(200))]
    features = [answer["features"] if n % 2 else answer for n, answer in enumerate(answers)]
    assert features == [[[float(n), n + 1.0]] for n in range(200)]
    text = client.get("/metrics").text
    rows, requests = (
        float(re.search(rf"predict_batch_rows_{what}.*encode.* (\S+)", text)[1]) for what in ("sum", "count")
    )
    assert rows > requests  # some were not alone


def test_a_request_that_the_model_refuses_does_not_take_others_with_it(client):
    def ask(n):
        row = [100.0 if n % 4 == 0 else 1.0, 0, 0]
        return client.post(PREDICT, json={"signature_name": "fussy", "instances": [row]}).status_code

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(64))) == [400, 200, 200, 200] * 16


# Versions


def test_a_new_version_takes_over_without_a_dropped_request(saved, changing):
    export, client = changing
    seen, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answer = client.post(PREDICT, json={"instances": [[1, 0, 0]]})
            seen.append((answer.status_code, answer.json().get("predictions", [[0]])[0][0]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    put(saved[2], export, 2)
    eventually(lambda: (200, 2.0) in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert {code for code, _ in seen} == {200}
    assert {value for _, value in seen} == {1.0, 2.0}
    assert states(client) == {"2": "AVAILABLE", "1": "AVAILABLE"}
    for number in (1, 2):
        got = client.post(f"{MODEL}/versions/{number}:predict", json={"instances": [[1, 0, 0]]})
        assert got.json() == {"predictions": [[float(number), 0.0]]}


def test_the_newest_two_versions_are_kept(saved, changing):
    export, client = changing
    put(saved[2], export, 2)
    put(saved["small"], export, 10)
    eventually(lambda: states(client) == {"10": "AVAILABLE", "2": "AVAILABLE"})
    assert client.post(f"{MODEL}/versions/1:predict", json={"instances": [[1, 0, 0]]}).status_code == 404


def test_a_version_that_goes_away_gives_way_to_the_one_before_but_the_last_one_stays(saved, changing):
    export, client = changing
    put(saved[2], export, 2)
    eventually(lambda: len(states(client)) == 2)
    shutil.rmtree(export / "saved_model" / "2")
    eventually(lambda: states(client) == {"1": "AVAILABLE"})
    shutil.rmtree(export / "saved_model")
    client.app.state.models.refresh()
    assert client.post(PREDICT, json={"instances": [[1, 0, 0]]}).json() == {"predictions": [[1.0, 0.0]]}


def test_a_broken_version_is_reported_and_the_others_go_on(saved, changing, caplog):
    export, client = changing
    broken = export / "broken"
    shutil.copytree(saved[2], broken)
    (broken / "saved_model.pb").write_bytes(b"no model")
    put(broken, export, 2)
    eventually(lambda: states(client) == {"2": "END", "1": "AVAILABLE"})
    (status,) = client.get(f"{MODEL}/versions/2").json()["model_version_status"]
    assert status["status"]["error_code"] != "OK"
    assert str(export) not in json.dumps(status)
    assert client.post(PREDICT, json={"instances": [[1, 0, 0]]}).json() == {"predictions": [[1.0, 0.0]]}
    for _ in range(3):
        client.app.state.models.refresh()
    assert len([r for r in caplog.records if "Version 2 cannot be loaded" in r.getMessage()]) == 1
    shutil.copy(saved[2] / "saved_model.pb", export / "saved_model" / "2")  # repaired: tried again
    eventually(lambda: states(client) == {"2": "AVAILABLE", "1": "AVAILABLE"})


def test_health_tells_life_from_readiness(saved, tmp_path):
    (tmp_path / "saved_model").mkdir()
    with serving(tmp_path) as client:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), client.post(PREDICT, json={"instances": [[1, 0, 0]]})):
            assert answer.status_code == 503
            assert is_error(answer)
        put(saved["small"], tmp_path, 1)
        client.app.state.models.refresh()
        assert client.get("/readyz").status_code == 200


def test_the_metrics_count_requests_and_batches(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    with serving(tmp_path) as client:
        client.post(PREDICT, json={"instances": [[1, 2, 3]] * 5})
        client.post(PREDICT, json={"instances": [[1]]})
        client.post(PREDICT, json={"signature_name": "an invention", "instances": [[1]]})
        text = client.get("/metrics").text
    for line in (
        'predict_requests_total{signature="serving_default",status="200"} 1.0',
        'predict_requests_total{signature="serving_default",status="400"} 1.0',
        'predict_requests_total{signature="none",status="400"} 1.0',
        'predict_seconds_count{signature="serving_default"} 1.0',
        'predict_batch_rows_sum{signature="serving_default"} 5.0',
    ):
        assert line in text
    assert "invention" not in text


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert '<meta name="model" content="encoder">' in answer.text
    assert re.findall(r"""(?:src|href)=(?!"data:)|https?://|@import|url\(""", answer.text) == []
