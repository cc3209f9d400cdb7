"""Scorers that a proxy asks for each request: one row through the shipped model in ONNX Runtime, in Python.

    python scorers.py asgi|fastapi ADDRESS:PORT

`asgi` is the least that Python allows (a bare ASGI application), `fastapi` the usual way. Both make a row from what a
sub-request shows, run the model and answer 204 with the score, or 403. They remember nothing and see no body.
"""

import sys
from pathlib import Path

import numpy
import onnxruntime
import uvicorn

MODELS = Path(__file__).parents[2] / "conf" / "model"


def load():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    model = max(MODELS.glob("risk-login-*.onnx"))
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0]


def scorer():
    session, wanted = load()
    outputs = [session.get_outputs()[0].name]
    width = wanted.shape[1]

    def score(headers):
        row = numpy.full((1, width), numpy.nan, dtype=numpy.float32)
        for place, (_, value) in enumerate(headers[:width]):
            row[0, place] = len(value) / 100.0
        return float(session.run(outputs, {wanted.name: row})[0].ravel()[0])

    return score


def asgi():
    score = scorer()

    async def application(scope, receive, send):
        if scope["type"] != "http":
            return
        probability = score(scope["headers"])
        status = 403 if probability > 1.0 else 204
        field = (b"x-risk-score", str(round(probability * 100)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [field]})
        await send({"type": "http.response.body", "body": b""})

    return application


def fastapi():
    from fastapi import FastAPI, Request, Response

    score = scorer()
    application = FastAPI()

    @application.get("/score")
    @application.post("/score")
    async def ask(request: Request) -> Response:
        probability = score(request.headers.raw)
        status = 403 if probability > 1.0 else 204
        return Response(status_code=status, headers={"x-risk-score": str(round(probability * 100))})

    return application


def main():
    framework, address = sys.argv[1:3]
    host, port = address.rsplit(":", 1)
    application = {"asgi": asgi, "fastapi": fastapi}[framework]()
    uvicorn.run(
        application,
        host=host,
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=60,
    )


if __name__ == "__main__":
    main()
