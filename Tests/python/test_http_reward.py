"""libhttp.so against servers of its own: what is sent, what is understood, and every way in which a server can fail.

    scripts/install.sh /tmp/prefix && DAG_BIN=.build/release DAG_PREFIX=/tmp/prefix pytest Tests/python/test_http_reward.py
"""
import base64
import http.server
import io
import json
import os
import pickle
import re
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import dagcore
import numpy
import pytest
import trustme
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PREFIX = os.environ["DAG_PREFIX"]
rng = numpy.random.default_rng(7)
IMAGES = [rng.integers(0, 256, (6, 9, 3), dtype=numpy.uint8) for _ in range(3)]
SMOOTH = [numpy.linspace(0, 200 + k, 24 * 16 * 3).reshape(24, 16, 3).astype(numpy.uint8) for k in range(3)]
PROMPTS = ['a "red" fox\nat night', "ein Bär 🐻", ""]
METADATA = [{"text": "OPEN\0", "n": 3}, {"text": "", "n": 0.1}, {"text": "x", "prompt": "its own", "big": 2**70, "one": 1}]


class Server(http.server.ThreadingHTTPServer):
    """Answers each request by `answer(server, handler, body)`: (status, headers, bytes), or None if that has answered itself."""
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.requests, self.lock = answer, [], threading.Lock()
        self.connections = self.at_work = self.most_at_work = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients that give up are what some tests want."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and content in one packet: the second of two waits for 40 ms

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.at_work += 1
            self.server.most_at_work = max(self.server.most_at_work, self.server.at_work)
        reply = self.server.answer(self.server, self, body)
        with self.server.lock:
            self.server.at_work -= 1
        if reply is None:
            return
        status, headers, content = reply
        self.send_response(status)
        for key, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(answer, context=None):
    server = Server(answer)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def scores(specification, images=IMAGES, prompts=PROMPTS, metadata=METADATA):
    reward = dagcore.load_reward(specification)
    try:
        return list(reward(images, prompts, metadata))
    finally:
        reward.close()


def error(specification, **arguments):
    with pytest.raises(dagcore.DagError) as caught:
        scores(specification, **arguments)
    return str(caught.value)


def picture(data):
    return numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def completion(text=None, logprobs=None, finish="stop"):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    if logprobs is not None:
        alternatives = [{"token": token, "logprob": value, "bytes": None} for token, value in logprobs.items()]
        choice["logprobs"] = {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": alternatives}]}
    return 200, {"Content-Type": "application/json"}, json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode()


def question_and_image(body):
    """The parts of a chat request: settings, text, pixels."""
    request = json.loads(body)
    (message,) = request.pop("messages")
    image, text = message["content"]
    assert message["role"] == "user" and image["type"] == "image_url" and text["type"] == "text"
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return request, text["text"], picture(base64.b64decode(data, validate=True))


# --- An OpenAI-compatible endpoint ---------------------------------------------------------------------------------------

def test_probability_of_yes():
    """Every image is asked about once, as it is, with its own prompt; the score is P(Yes) / (P(Yes) + P(No))."""
    def answer(server, handler, body):
        text = question_and_image(body)[1]
        p = {"3": 0.9, "0.1": 0.25}[text.rsplit(" ", 1)[1]]
        return completion(logprobs={" yes": numpy.log(p * 0.5), "Yes": numpy.log(p * 0.3), "No": numpy.log((1 - p) * 0.8), "Well": -2})

    with serving(answer) as server:
        question = '"Does {prompt} say {metadata.text}, yes or no? {not a placeholder} {metadata.n}"'
        found = scores(f"libhttp.so,url={server.url}/v1/,model=judge,question={question}", IMAGES[:2], PROMPTS[:2], METADATA[:2])
        assert found == pytest.approx([0.9, 0.25], rel=1e-5)
        seen = sorted((question_and_image(body) for _, _, body in server.requests), key=lambda part: part[1])
        assert [path for path, _, _ in server.requests] == ["/v1/chat/completions"] * 2
    texts = [f"Does {PROMPTS[k]} say {METADATA[k]['text']}, yes or no? {{not a placeholder}} {METADATA[k]['n']}" for k in range(2)]
    assert [text for _, text, _ in seen] == texts
    assert all((part[2] == image).all() for part, image in zip(seen, IMAGES[:2], strict=True))
    assert all(part[0] == {"model": "judge", "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20} for part in seen)
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize("text, marker, expected", [
    ("7", "", 7), (" 7.5\n", "", 7.5), ("It is fine. Final Score: 4", "Final Score:", 4),
    ("Final Score: 1 or rather Final Score: 2.", "Final Score:", 2),
])
def test_number(text, marker, expected):
    with serving(lambda *_: completion(text)) as server:
        setting = f'libhttp.so,url={server.url},model=m,answer=number,question="From 0 to 10?",marker="{marker}"'
        assert scores(setting) == [expected] * 3
        assert json.loads(server.requests[0][2])["max_tokens"] == 16 and "logprobs" not in json.loads(server.requests[0][2])


@pytest.mark.parametrize("reply, message", [
    (completion("8/10"), "more or less than a number in the answer: 8/10"),
    (completion("I would say"), "more or less than a number in the answer: I would say"),
    (completion("The image", finish="length"), "(it was cut off: raise max_tokens)"),
    (completion("11"), "11, is not from lowest=0 to highest=10"),
    (completion("nan"), "more or less than a number"),
    (completion(None), "the answer has no text"),
    ((200, {}, b'{"choices": []}'), "the answer has no choices"),
    ((200, {}, b'{"choices": [{"mess'), "the answer is no JSON"),
    ((200, {}, b""), "the answer is no JSON"),
])
def test_answers_that_are_no_number(reply, message):
    with serving(lambda *_: reply) as server:
        assert message in error(f'libhttp.so,url={server.url},model=m,answer=number,question="From 0 to 10?"')


@pytest.mark.parametrize("reply, message", [
    (completion("Yes"), "the answer has no top_logprobs"),
    (completion(logprobs={"Perhaps": -0.1, "Maybe": -2}), "neither Yes nor No is among the likeliest words"),
])
def test_answers_without_yes(reply, message):
    with serving(lambda *_: reply) as server:
        assert message in error(f"libhttp.so,url={server.url},model=m")


def test_one_image_without_an_answer():
    """An image that the server does not understand costs its own score and no other: on_failure decides what becomes of it."""
    def answer(_, __, body):
        return completion("what?" if "Bär" in question_and_image(body)[1] else "3")

    with serving(answer) as server:
        setting = f'libhttp.so,url={server.url},model=m,answer=number,question="{{prompt}}?",on_failure=impute:-1'
        assert scores(setting) == [3, -1, 3]
    with serving(lambda *_: completion("3")) as server:
        found = error(f'libhttp.so,url={server.url},model=m,answer=number,question="{{metadata.n}}?"')
        assert "the prompt's metadata has no text or number `n`" in found


# --- flow_grpo's servers -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol):
    def answer(_, __, body):
        data = pickle.loads(body)
        assert list(data) == ["images", "prompts", "meta_datas", "only_strict"]
        assert [type(image) for image in data["images"]] == [bytes] * 3
        # As its servers read them.
        opened = [Image.open(io.BytesIO(image), formats=["jpeg"]) for image in data["images"]]
        for image, original in zip(opened, SMOOTH, strict=True):
            jpeg = io.BytesIO()
            Image.fromarray(original).save(jpeg, format="JPEG")
            assert (numpy.asarray(image) == picture(jpeg.getvalue())).all()
        assert data["prompts"] == PROMPTS and data["only_strict"] is True
        # GenEval's looks for the prompt in the metadata.
        assert data["meta_datas"] == [{"prompt": prompt, **metadata} for prompt, metadata in zip(PROMPTS, METADATA, strict=True)]
        shared = [0.25, -3, 1e-9]
        reply = {"scores": shared, "again": shared, "rewards": (1, 2), "group_rewards": {"two": [True, None], 5: {"x": "y"}}}
        return 200, {}, pickle.dumps({**reply, "long": "x" * 70000, "big": 2**70, "many": list(range(-5, 3000))}, protocol=protocol)

    with serving(answer) as server:
        found = scores(f"libhttp.so,url={server.url}/score,protocol=flow_grpo", SMOOTH)
        assert found == pytest.approx([0.25, -3, 1e-9])
        assert server.requests[0][0] == "/score"
        assert "no list `nothing`" in error(f"libhttp.so,url={server.url},protocol=flow_grpo,result=nothing", images=SMOOTH)


class Trap:
    """Would make a file if somebody unpickled it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickles_that_are_refused(tmp_path):
    whole = pickle.dumps({"outputs": [1.0, 2.0, 3.0]})
    both = pickle.dumps({"outputs": [1.0] * 3, "scores": [1.0] * 3})
    deep = b"\x80\x03N" + b"\x85" * 100000 + b"."
    endless = []
    endless.append(endless)
    cases = [
        (pickle.dumps({"outputs": endless}), "the answer has 1 scores for 3 images"),
        (pickle.dumps({"outputs": [1.0, 2.0]}), "the answer has 2 scores for 3 images"),
        (pickle.dumps({"outputs": [1.0, float("nan"), 3.0]}), "score 1 is no finite number"),
        (pickle.dumps({"outputs": [1.0, None, 3.0]}), "score 1 is no finite number"),
        (pickle.dumps({"outputs": numpy.ones(3)}), "objects that are not plain numbers, such as numpy's"),
        (pickle.dumps({"outputs": [numpy.float32(1)] * 3}), "objects that are not plain numbers, such as numpy's"),
        (pickle.dumps({"outputs": Trap(tmp_path / "trap")}), "objects that are not plain numbers"),
        (pickle.dumps([1.0, 2.0, 3.0]), "the answer is no dictionary"),
        (both, "has both outputs and scores"), (deep, "too many lists"), (b'{"outputs": [1]}', "is no pickle"), (b"", "is cut short"),
        *((whole[:length], "the answer ") for length in range(1, len(whole))),
        *((bytes([code]) + b"\x01" * 9, "the answer ") for code in range(256)),
        *((b"\x80\x03(" + bytes([code]) + b".", "the answer ") for code in range(256)),
    ]
    replies = iter(case[0] for case in cases)
    with serving(lambda *_: (200, {}, next(replies))) as server:
        reward = dagcore.load_reward(f"libhttp.so,url={server.url},protocol=flow_grpo")
        for reply, message in cases:
            with pytest.raises(dagcore.DagError) as caught:
                reward(IMAGES, PROMPTS, METADATA)
            assert message in str(caught.value), reply[:40]
        reward.close()
    assert not (tmp_path / "trap").exists()


# --- Servers that fail ---------------------------------------------------------------------------------------------------

def chat(server, **settings):
    rest = "".join(f",{key}={value}" for key, value in settings.items())
    return f'libhttp.so,url={server.url},model=m,answer=number,question="?"{rest}'


def test_failures_that_pass():
    """503, 429 with Retry-After, half an answer, and a connection that is cut: tried again, each image until it has its score."""
    def answer(server, handler, body):
        with server.lock:
            kind = kinds.pop() if kinds else None
        if kind == "half":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        if kind in ("half", "cut"):
            handler.close_connection = True
            return None
        if kind:
            return kind, {"Retry-After": "1"} if kind == 429 else {}, b"later"
        return completion("5")

    kinds = [503, 429, "half", "cut"]
    with serving(answer) as server:
        assert scores(chat(server)) == [5, 5, 5]
        assert len(server.requests) == 7


@pytest.mark.parametrize("status, tries", [(500, 3), (503, 3), (400, 1), (401, 1), (404, 1)])
def test_failures_that_do_not_pass(status, tries):
    with serving(lambda *_: (status, {}, b'{"error":\n"no \x01such"}')) as server:
        found = error(chat(server, retries=2), images=IMAGES[:1], prompts=PROMPTS[:1], metadata=METADATA[:1])
        assert f'{server.url}/chat/completions answers {status}: {{"error": "no  such"}}' in found
        assert ("(3 tries)" in found) == (tries == 3)
        # A reward that fails is asked once more by a new process.
        assert len(server.requests) in (tries, 2 * tries)


def test_nobody_there():
    with serving(lambda *_: None) as server:
        gone = chat(server, retries=1)
    assert "(2 tries)" in error(gone)


def test_hangs():
    """A request ends by itself; so does the whole batch, when the host's time is over."""
    release = threading.Event()

    def answer(*_):
        release.wait(30)

    with serving(answer) as server:
        start = time.monotonic()
        assert "Timeout was reached (1 try)" in error(chat(server, request_timeout=0.3, retries=0))
        assert "had not answered when the batch's time (timeout=) was over" in error(chat(server, timeout=1.5))
        release.set()
        assert time.monotonic() - start < 25


def test_retry_after_the_end():
    with serving(lambda *_: (429, {"Retry-After": "3600"}, b"full")) as server:
        assert "was over; before: " in (found := error(chat(server, timeout=1.5))) and "answers 429: full" in found


def test_redirects_are_not_followed():
    with serving(lambda *_: completion("5")) as other:
        with serving(lambda *_: (307, {"Location": other.url + "/there"}, b"")) as server:
            assert f"sends to {other.url}/there, which is not followed" in error(chat(server))
        assert not other.requests


def test_answers_that_never_end():
    with serving(lambda *_: (200, {}, b"x" * (17 << 20))) as server:
        assert "sends more than 16 MB" in error(chat(server, retries=0), images=IMAGES[:1], prompts=[""], metadata=[{}])


def test_concurrency_and_connections():
    """As many requests at a time as are wanted, over connections that are kept from batch to batch."""
    def answer(*_):
        time.sleep(0.02)
        return completion("5")

    with serving(answer) as server:
        reward = dagcore.load_reward(chat(server, concurrency=4))
        for _ in range(3):
            assert list(reward([IMAGES[0]] * 20, [""] * 20)) == [5] * 20
        reward.close()
        assert 1 < server.most_at_work <= 4 and server.connections <= 4


# --- Keys and certificates -----------------------------------------------------------------------------------------------

def test_the_key(monkeypatch):
    """It is sent where it belongs, and shown nowhere, also if the server repeats it."""
    monkeypatch.setenv("JUDGE_KEY", "sk-Secret123")
    with serving(lambda *_: completion("5")) as server:
        assert scores(chat(server, key_env="JUDGE_KEY")) == [5] * 3
        assert {headers["Authorization"] for _, headers, _ in server.requests} == {"Bearer sk-Secret123"}
    with serving(lambda *_: (401, {}, b"sk-Secret123 is wrong, sk-Secret123!")) as server:
        found = error(chat(server, key_env="JUDGE_KEY"))
        assert "answers 401: ************ is wrong, ************!" in found and "Secret" not in found
    for length in range(60, 260, 3):  # where a message ends within the key
        with serving(lambda *_, length=length: (401, {}, b"x" * length + b"sk-Secret123")) as server:
            assert "sk-" not in error(chat(server, key_env="JUDGE_KEY"))
    with serving(lambda *_: completion("x" * 70 + " sk-Secret123")) as server:
        assert "sk-" not in error(chat(server, key_env="JUDGE_KEY"))
    assert "key_env=NO_SUCH: there is no such variable" in error("libhttp.so,url=http://x,model=m,key_env=NO_SUCH")
    monkeypatch.setenv("JUDGE_KEY", "two words")
    assert "has white space" in error("libhttp.so,url=http://x,model=m,key_env=JUDGE_KEY")


def test_certificates(tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with serving(lambda *_: completion("5"), context) as server:
        secure = chat(server).replace("http://", "https://")
        assert scores(f"{secure},ca_file={tmp_path}/ca.pem") == [5] * 3
        for unknown in [secure, f"{secure},ca_file={tmp_path}/other.pem", f"{secure},ca_file={tmp_path}/none.pem"]:
            assert re.search("certificate|CA cert", error(unknown))
        assert len(server.requests) == 3


@pytest.mark.parametrize("settings, message", [
    ("model=m", "url is missing"),
    ("url=ftp://x,model=m", "url=ftp://x is not an address that begins with http:// or https://"),
    ("url=nothing at all,model=m", "is not an address"),
    ("url=http://me:secret@x,model=m", "url has a name or password in it"),
    ("url=htp://me:secret@x,model=m", "url is not an address"),
    ("url=http://x/v1?version=2,model=m", "url=http://x/v1?version=2 has a ? or #"),
    ("url=http://x", "model is missing"),
    ("url=http://x,model=m,protocol=grpc", "protocol=grpc is not one of openai, flow_grpo"),
    ("url=http://x,model=m,protocol=flow_grpo", "model is for protocol=openai: leave it out"),
    ("url=http://x,model=m,only_strict=false", "only_strict is for protocol=flow_grpo: leave it out"),
    ("url=http://x,protocol=flow_grpo,only_strict=no", "only_strict=no is not true or false"),
    ("url=http://x,model=m,answer=maybe", "answer=maybe is not one of yes, number"),
    ("url=http://x,model=m,answer=number", "answer=number needs a question that asks for a number"),
    ("url=http://x,model=m,marker=x", "marker is for answer=number"),
    ("url=http://x,model=m,question={pormpt}?", "question has {pormpt}; what it can have is {prompt} and {metadata.KEY}"),
    ("url=http://x,model=m,question={metadata.}?", "question has {metadata.}"),
    ("url=http://x,model=m,lowest=3,highest=3", "lowest=3 is not below highest=3"),
    ("url=http://x,model=m,max_tokens=1.5", "max_tokens=1.5 is not a whole number"),
    ("url=http://x,protocol=flow_grpo,jpeg_quality=75.5", "jpeg_quality=75.5 is not a whole number"),
    ("url=http://x,model=m,retries=1.5", "retries=1.5 is not a whole number"),
    ("url=http://x,model=m,concurrency=0", "concurrency=0 is not a number from 1 to 256"),
    ("url=http://x,model=m,request_timeout=0", "request_timeout=0 is not a number"),
    ("url=http://x,model=m,tempo=3", "tempo"),
])
def test_settings_that_are_refused(settings, message):
    found = error(f"libhttp.so,{settings}")
    assert message in found and "secret" not in found


def test_settings_that_a_run_may_change(tmp_path):
    """Address, retries and concurrency are not what scores depend on, however long the question is; the question is."""
    def fingerprint(**settings):
        done = subprocess.run(
            [Path(os.environ["DAG_BIN"]).resolve() / "dag-train", "--model", ROOT / "models/tiny-sd", "--prompts", "tiny-sd", "--epochs", "1",
             "--steps", "2", "--sample-batch-size", "2", "--batches-per-epoch", "1", "--train-batch-size", "2", "--gradient-accumulation-steps",
             "1", "--sample-every", "0", *settings.pop("where"), "--reward-plugin",
             f"{PREFIX}/lib/dag/rewards/libhttp.so" + "".join(f',{key}="{value}"' for key, value in settings.items())],
            capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    long = "Is this {prompt}? " * 200
    judged = {"model": "m", "answer": "number", "question": long}
    run = tmp_path / "run"
    with serving(lambda _, __, body: completion(str(float(question_and_image(body)[2].mean()) / 100))) as server:
        assert fingerprint(where=["--output", run], url=server.url, **judged) == (0, "")
    with serving(lambda _, __, body: completion(str(float(question_and_image(body)[2].mean()) / 100))) as server:
        other = {"url": server.url, "concurrency": 2, "retries": 1, **judged}
        assert fingerprint(where=["--resume", run, "--epochs", "2"], **other)[0] == 0
        status, message = fingerprint(where=["--resume", run, "--epochs", "3"], **{**other, "question": long + "Really?"})
        assert status == 1 and "question=" in message and "trained with other rewards" in message


def test_training_with_a_judge(tmp_path):
    """Whole epochs are judged; nothing that is written or said has the key."""
    def answer(_, __, body):
        return completion(str(float(question_and_image(body)[2].mean()) / 100))

    with serving(answer) as server:
        done = subprocess.run(
            [Path(os.environ["DAG_BIN"]).resolve() / "dag-train", "--model", ROOT / "models/tiny-sd", "--prompts", "tiny-sd", "--epochs", "1",
             "--steps", "2", "--sample-batch-size", "4", "--batches-per-epoch", "1", "--train-batch-size", "4",
             "--gradient-accumulation-steps", "1", "--sample-every", "0", "--output", tmp_path / "run", "--reward-plugin",
             f"{PREFIX}/lib/dag/rewards/{chat(server, key_env='JUDGE_KEY')}"],
            capture_output=True, text=True, check=False, env={**os.environ, "JUDGE_KEY": "sk-Secret123"})
        assert done.returncode == 0, done.stderr
        assert {headers["Authorization"] for _, headers, _ in server.requests} == {"Bearer sk-Secret123"}
    metrics = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < metrics["reward/http/score"] < 2.55 and metrics["reward_std"] > 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"key_env=JUDGE_KEY" in written and b"Secret123" not in written and "Secret123" not in done.stdout + done.stderr
