"""Sends image files as the frames of one camera: python3 camera.py FRAME...

Needs grpcio and grpcio-tools (pip), or Debian's python3-grpcio, python3-grpc-tools and libprotobuf-dev.
TTA_GRPC says where the server is, 127.0.0.1:8001 unless it is set."""
import os
import sys
import tempfile
from pathlib import Path

import grpc
import grpc_tools
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parents[2] / "protos"
stubs = tempfile.mkdtemp()
# google/protobuf/*.proto come with pip's grpcio-tools, or lie where Debian puts them.
includes = [PROTOS, Path(grpc_tools.__file__).parent / "_proto", Path("/usr/include")]
if protoc.main(["protoc", *[f"-I{folder}" for folder in includes if folder.exists()], f"--python_out={stubs}", f"--grpc_python_out={stubs}",
                *sorted(map(str, PROTOS.glob("tta/v1/*.proto")))]) != 0:
    sys.exit("the stubs could not be made")
sys.path.insert(0, stubs)
from tta.v1 import adaptation_pb2 as tta, adaptation_pb2_grpc, frame_pb2  # noqa: E402


def messages(paths):
    # The first message opens the stream, or goes on with it; every later one is a step.
    yield tta.StreamInferRequest(open=tta.OpenStream(stream="camera-py", model="fashion-mnist"))
    for path in paths:
        frame = frame_pb2.Frame(encoded=Path(path).read_bytes())
        yield tta.StreamInferRequest(step=tta.StepRequest(frames=[frame]))


with grpc.insecure_channel(os.environ.get("TTA_GRPC", "127.0.0.1:8001")) as channel:
    names = iter(sys.argv[1:])
    for reply in adaptation_pb2_grpc.AdaptationServiceStub(channel).StreamInfer(messages(sys.argv[1:])):
        if reply.HasField("step"):
            best = reply.step.predictions[0].top[0]
            print(f"{next(names)}: {best.label} {best.probability:.3f}, step {reply.step.step}")
        elif reply.HasField("error"):
            print(f"{next(names)}: {reply.error.reason}: {reply.error.message}")
