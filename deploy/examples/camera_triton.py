"""Sends image files as one sequence with Triton's own client: python3 camera_triton.py FRAME...

Needs tritonclient[grpc] (pip). TTA_GRPC says where the server is, 127.0.0.1:8001 unless it is set."""
import os
import sys

import numpy as np
import tritonclient.grpc as triton

MODEL = "fashion-mnist"
client = triton.InferenceServerClient(os.environ.get("TTA_GRPC", "127.0.0.1:8001"))
metadata = client.get_model_metadata(MODEL)
output = metadata.outputs[0].name

for number, path in enumerate(sys.argv[1:]):
    with open(path, "rb") as file:
        data = np.array([file.read()], dtype=np.object_)
    frame = triton.InferInput(metadata.inputs[0].name, [1], "BYTES")
    frame.set_data_from_numpy(data)
    answer = client.infer(
        MODEL, [frame], outputs=[triton.InferRequestedOutput(output, class_count=1)],
        sequence_id="camera-triton", sequence_start=number == 0, parameters={"tta_resume": True})
    probability, _, label = answer.as_numpy(output).reshape(-1)[0].decode().split(":")
    print(f"{path}: {label} {float(probability):.3f}, step {answer.get_response().parameters['tta_step'].int64_param}")
