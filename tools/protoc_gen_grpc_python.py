"""A protoc plugin that runs grpcio-tools' own generator of service stubs.

grpcio-tools builds the generator into its protoc and offers no plugin
executable for it, so buf cannot call it directly. This shim receives buf's
CodeGeneratorRequest, hands its descriptors to `grpc_tools.protoc
--descriptor_set_in`, and returns the files.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def main() -> None:
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    with_services = {f.name for f in request.proto_file if f.service}
    wanted = [name for name in request.file_to_generate if name in with_services]
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "in.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        if wanted:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "grpc_tools.protoc",
                    f"--descriptor_set_in={descriptors}",
                    f"--grpc_python_out={out}",
                    *wanted,
                ],
                check=True,
            )
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
